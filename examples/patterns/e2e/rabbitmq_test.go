package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/testserver"
)

// rabbitBinary is the server of Debian's package. The script of the same name in
// /usr/sbin wants to be root and to run as another user.
const rabbitBinary = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// installRabbitMQ installs RabbitMQ where it is missing, if it can.
func installRabbitMQ(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(rabbitBinary); err == nil {
		return
	}
	remedy := "fix: apt-get install rabbitmq-server"
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		testserver.Require(t, fmt.Errorf("RabbitMQ is not installed: %w\n%s", testserver.ErrMissing, remedy))
	}
	for _, arguments := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "rabbitmq-server"}} {
		install := exec.CommandContext(t.Context(), "apt-get", arguments...)
		install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		output, err := install.CombinedOutput()
		require.NoError(t, err, "install RabbitMQ (%s): %s", remedy, output)
	}
}

// startRabbitMQ starts a node with data, ports and an epmd of its own, and returns
// its URL. It listens on 127.0.0.1 only.
func (s *stage) startRabbitMQ() string {
	s.Helper()
	installRabbitMQ(s.T)
	ports, err := testserver.FreePorts(3)
	require.NoError(s, err)
	folder, err := testserver.NewFolder("", "streamer-rabbitmq")
	require.NoError(s, err)
	s.Cleanup(func() { _ = folder.Remove() })
	plugins := filepath.Join(folder.Path, "plugins")
	require.NoError(s, os.WriteFile(plugins, []byte("[].\n"), 0o600))
	environment := append(os.Environ(),
		"HOME="+folder.Path, // of the cookie
		fmt.Sprintf("ERL_EPMD_PORT=%d", ports[0]), "ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=patterns-%d@localhost", os.Getpid()),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", fmt.Sprintf("RABBITMQ_NODE_PORT=%d", ports[1]),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", ports[2]), "RABBITMQ_MNESIA_BASE="+folder.Path, "RABBITMQ_LOG_BASE="+folder.Path,
		"RABBITMQ_LOGS=-", "RABBITMQ_ENABLED_PLUGINS_FILE="+plugins, "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	)
	log, err := os.Create(filepath.Join(s.folder, "rabbitmq.log"))
	require.NoError(s, err)
	defer log.Close() // the children have their own descriptors
	for _, command := range [][]string{{"epmd", "-port", strconv.Itoa(ports[0]), "-address", "127.0.0.1"}, {rabbitBinary}} {
		cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // ends by a signal, after the test's context
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = folder.Path, environment, log, log
		server, err := testserver.StartProcess(cmd, syscall.SIGKILL)
		require.NoError(s, err)
		s.Cleanup(func() { _ = server.Stop(15*time.Second, syscall.SIGTERM) })
	}
	address := fmt.Sprintf("127.0.0.1:%d", ports[1])
	s.eventually("RabbitMQ listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	s.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); err == nil && s.Failed() {
			lines := strings.Split(string(text), "\n")
			s.Logf("RabbitMQ says at last:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
	return "amqp://guest:guest@" + address
}
