package testserver

import (
	"net"
	"strconv"
	"sync"
)

// claims are the ports that this process has handed out.
var (
	claimsMu sync.Mutex
	claims   = map[int]net.Listener{}
)

// claim reserves a port for this process among all that use this function, for
// the lifetime of the process. A server that is stopped for a while needs its
// port again. The claim is a name in the kernel, which leaves nothing behind.
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
