"""Makes GIFs, MP4s and posters of frames."""
