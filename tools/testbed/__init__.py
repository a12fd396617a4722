"""The testbed: network namespaces with a client, a balancer and backends (see README.md)."""
