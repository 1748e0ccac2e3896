package testserver

import (
	"net"
	"strconv"
	"sync"
)

// claims are the ports that this process has given out.
var (
	claimsMu sync.Mutex
	claims   = map[int]net.Listener{}
)

// claim makes a port this process's own among all that ask here, as long as the
// process lives: a server that is stopped for a while wants its port again. The
// claim is a name of the kernel's, which leaves nothing behind.
func claim(port int) bool {
	claimsMu.Lock()
	defer claimsMu.Unlock()
	listener, err := net.Listen("unix", "@streamer-test-port-"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	claims[port] = listener
	return true
}
