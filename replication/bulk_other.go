//go:build !linux

package replication

import "net"

// readInBulk returns the connection unchanged: bulk reads need Linux's epoll.
func readInBulk(conn net.Conn, _ bool) (net.Conn, error) { return conn, nil }
