"""The public API, one module a group of calls. Routes answer; they decide nothing about walks."""
