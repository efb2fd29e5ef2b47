"""The database's tables. Their columns are documented here; migrations/ brings a database to them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

metadata = MetaData()

walks = Table(
    "walks",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    Column("spec_version", Integer, nullable=False, server_default="1", doc="The SPEC_VERSION that wrote `spec`."),
    Column("model", Text, Computed("spec ->> 'model'"), doc="The model of `spec`."),
    Column("scope", Text, Computed("spec ->> 'scope'"), doc="The scope of `spec`; null for a public walk."),
    Column("stops", Text, nullable=False, doc="All stops, as `searchable` makes them, for the gallery's search."),
    Column(
        "frames", Integer, nullable=False, doc="Pictures that the walk may render, with those that its film leaves out."
    ),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("tries", Integer, nullable=False, doc="Workers lost over this walk since its last stored frame."),
    Column("tag", BigInteger, nullable=False, doc="Position in the fair queue: the lowest is rendered first."),
    Column("layout", JSON(none_as_null=True), doc="The newest round; null for the first one, which the spec says."),
    Column(
        "plan",
        JSON(none_as_null=True),
        doc="The shards, each a list of numbers of points; null before the walk is planned.",
    ),
    Column("plans", Integer, nullable=False, doc="Number of plans so far: shards of an older plan are void."),
    Column(
        "fingerprint",
        String(64),
        doc="The fingerprint that the walk keeps to while replicas of it are awake; null before one was chosen.",
    ),
    Column(
        "fingerprints",
        JSON,
        nullable=False,
        server_default="[]",
        doc="The fingerprints of its frames; an empty text where a fingerprint is unknown.",
    ),
    Column("films", JSON, nullable=False),
    Column(
        "extras", JSON, nullable=False, server_default="[]", doc="Names of the files that its recipe has beside frames."
    ),
    Column("warnings", JSON, nullable=False),
    Column("smoothness", JSON(none_as_null=True), doc="How evenly the walk moves; null before it is filmed."),
    Column("error", Text),
    Column(
        "hidden",
        Boolean,
        nullable=False,
        doc="Not in the gallery, by an operator or the safety checker; the URL still works.",
    ),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column(
        "finished_at",
        DateTime(timezone=True),
        doc="When it ended last; null while it is unfinished, and for walks that older releases ended.",
    ),
    Column("frames_removed", Boolean, nullable=False, server_default=false(), doc="Its time to keep frames is over."),
    Column("films_removed", Boolean, nullable=False, server_default=false(), doc="Its time to keep films is over."),
    Index("walks_open", "state", "tag", "number"),
    Index("walks_by_end", "finished_at"),
    Index("walks_of_scope", "scope"),
    Index("walks_of_model", "model", "number"),
    sqlite_autoincrement=True,
)

erasures = Table(
    "erasures",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("walk_id", String(32), nullable=False, index=True, doc="A walk whose row is deleted."),
    Column("spec", JSON, nullable=False, doc="Names its frames, until these are deleted."),
    Column("spec_version", Integer, nullable=False),
    Column("erased_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False, index=True, doc="When its files are deleted next."),
)

landings = Table(
    "landings",
    metadata,
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Column("frame", Integer, primary_key=True),
    Column("plan", Integer, nullable=False, server_default="0", doc="The plan whose numbering `frame` uses."),
)

asks = Table(
    "asks",
    metadata,
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(64), primary_key=True),
    Column("listed", Boolean, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Index("asks_of_owner", "owner", "asked_at"),
)

charges = Table(
    "charges",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column(
        "walk_id",
        String(32),
        ForeignKey("walks.id", ondelete="SET NULL"),
        doc="The walk that this charge started; null if it was deleted, or started again by another charge.",
    ),
    Column("owner", String(64), nullable=False, doc="`account_of` the requester."),
    Column("network", String(64), doc="Keyed hash of the requester's network; null if it is not known."),
    Column("frames", Integer, nullable=False, doc="Pictures that the walk might render when it was charged."),
    Column("charged_at", DateTime(timezone=True), nullable=False),
    Index("charges_of_walk", "walk_id"),
    Index("charges_of_owner", "owner", "charged_at"),
    Index("charges_of_network", "network", "charged_at"),
    Index("charges_by_time", "charged_at"),
)

keys = Table(
    "keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("made_at", DateTime(timezone=True), nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("job", String(96), primary_key=True, doc="The key of a job in the queue."),
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("worker", String(32), nullable=False),
)

losses = Table(
    "losses",
    metadata,
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Column("worker", String(32), primary_key=True),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("replicas_awake", Integer, nullable=False),
    Column("shard_s", Float),
    Column(
        "models",
        JSON(none_as_null=True),
        doc="For each model the replicas awake and the seconds per shard; null from workers of the last release.",
    ),
    Column("seen_at", DateTime(timezone=True), nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("card", JSON, nullable=False, doc="The current model card, with the current revision."),
    Column("registered_at", DateTime(timezone=True), nullable=False, doc="When a replica or a file first brought it."),
    Column("retired", Boolean, nullable=False, doc="New walks cannot use it."),
    Column("is_default", Boolean, nullable=False, doc="An operator made it the default; true for one row at most."),
    Column("seen_at", DateTime(timezone=True), doc="When a replica of it was last awake; null before the first one."),
    Column("shard_s", Float, doc="Seconds that a shard took last; null before the first."),
    Column("features", JSON(none_as_null=True), doc="What its replicas can do; null before one has told."),
)

pictures = Table(
    "pictures",
    metadata,
    Column("key", String(32), primary_key=True, doc="Name of the object in the bucket: random, and never used again."),
    Column("id", String(64), nullable=False, doc="The SHA-256 of the stored PNG."),
    Column("owner", String(64), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("deleted", Boolean, nullable=False, doc="By its owner, or being deleted: nobody can see it any more."),
    Index("pictures_of_owner", "owner", "id"),
    Index("pictures_by_end", "expires_at"),
)

picture_uses = Table(
    "picture_uses",
    metadata,
    Column("picture", String(32), ForeignKey("pictures.key"), primary_key=True),
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Index("picture_uses_of_walk", "walk_id"),
)

clips = Table(
    "clips",
    metadata,
    Column("key", String(32), primary_key=True, doc="Name of the object in the bucket: random, and never used again."),
    Column("id", String(64), nullable=False, doc="The SHA-256 of the stored file."),
    Column("owner", String(64), nullable=False),
    Column("ending", String(4), nullable=False, doc="Of the object's name: mp4 or webm."),
    Column("seconds", Float, nullable=False),
    Column("width", Integer, nullable=False, doc="As players show it, like the height."),
    Column("height", Integer, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("has_sound", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("deleted", Boolean, nullable=False, doc="By its owner, or being deleted: nobody can see it any more."),
    Index("clips_of_owner", "owner", "id"),
    Index("clips_by_end", "expires_at"),
)

clip_uses = Table(
    "clip_uses",
    metadata,
    Column("clip", String(32), ForeignKey("clips.key"), primary_key=True),
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Index("clip_uses_of_walk", "walk_id"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("owner", String(64), nullable=False),
    Column("size", BigInteger, nullable=False, doc="Bytes that were received, also of what was no picture."),
    Column("uploaded_at", DateTime(timezone=True), nullable=False),
    Column("network", String(64), doc="Keyed hash of the uploader's network; null if it is not known."),
    Index("uploads_of_owner", "owner", "uploaded_at"),
    Index("uploads_of_network", "network", "uploaded_at"),
    Index("uploads_by_time", "uploaded_at"),
)

notices = Table(
    "notices",
    metadata,
    Column("id", String(32), primary_key=True, doc="Random; also identifies the message to its receiver."),
    Column("walk_id", String(32), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("target", Text, nullable=False, doc="The mail address, or the URL of the webhook."),
    Column("secret", Text, doc="Signs the messages of a webhook; null for mail."),
    Column("tries", Integer, nullable=False, doc="Failed deliveries."),
    Column("next_at", DateTime(timezone=True), doc="Not delivered before; null before the first delivery."),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # A request that is withdrawn, or deleted with its walk, takes the addresses with it.
    ForeignKeyConstraint(["walk_id", "owner"], ["asks.walk_id", "asks.owner"], ondelete="CASCADE", onupdate="CASCADE"),
    Index("notices_of_request", "walk_id", "owner"),
)

notice_charges = Table(
    "notice_charges",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("owner", String(64), nullable=False),
    Column("network", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("address", String(64), nullable=False, doc="Keyed hash of the mail address; empty for webhooks."),
    Column("confirmed", Boolean, nullable=False, doc="The owner has confirmed this address since."),
    Column("charged_at", DateTime(timezone=True), nullable=False),
    Index("notice_charges_by_time", "charged_at"),
)

mail_stops = Table(
    "mail_stops",
    metadata,
    Column("address", String(64), primary_key=True, doc="Keyed hash of an address that wants no mail."),
    Column("stopped_at", DateTime(timezone=True), nullable=False),
)
