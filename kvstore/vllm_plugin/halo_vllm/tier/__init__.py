"""KV blocks kept in host memory, for an engine that evicted them and for any other engine of the same host."""
