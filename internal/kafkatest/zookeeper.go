package kafkatest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

// Before Kafka 3.3, KRaft was not for production. Such brokers keep their
// metadata in one ZooKeeper, which comes with their jars and has its own
// process.

// usesZooKeeper reports whether the brokers of [Version] need ZooKeeper.
func usesZooKeeper() bool { return !AtLeast(3, 3) }

// AtLeast reports whether [Version] is that release line or a newer one.
func AtLeast(major, minor int) bool {
	parts := strings.SplitN(Version(), ".", 3)
	found := make([]int, 2)
	for i := range min(len(parts), len(found)) {
		found[i], _ = strconv.Atoi(parts[i]) // a name of something unknown is old
	}
	return found[0] > major || found[0] == major && found[1] >= minor
}

// startZooKeeper starts it on a new port. The brokers wait until it answers.
func (c *Cluster) startZooKeeper(ctx context.Context) error {
	if _, jars := c.launcher.(*javaLauncher); !jars {
		return fmt.Errorf("start ZooKeeper for Kafka %s: there is no image of that version: install Java and Maven: %w",
			Version(), testserver.ErrMissing)
	}
	ports, err := testserver.FreePorts(1)
	if err != nil {
		return err
	}
	c.zookeeper = &broker{
		ports:    brokerPorts{client: ports[0]},
		folder:   filepath.Join(c.folder.Path, fmt.Sprintf("zookeeper-%d", ports[0])),
		launcher: c.launcher,
	}
	err = c.zookeeper.writeProperties(map[string]string{
		"clientPort": strconv.Itoa(ports[0]), "clientPortAddress": "127.0.0.1", "dataDir": c.zookeeper.dataDir(),
		"tickTime": "500", "admin.enableServer": "false", "maxClientCnxns": "0",
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.zookeeper.dataDir(), 0o700); err != nil {
		return fmt.Errorf("make folder of ZooKeeper: %w", err)
	}
	cmd := c.launcher.command(context.WithoutCancel(ctx), c.zookeeper,
		"org.apache.zookeeper.server.ZooKeeperServerMain", nil, c.zookeeper.propertiesFile())
	err = c.zookeeper.withLog(cmd, func() (err error) {
		c.zookeeper.process, err = testserver.StartProcess(cmd, syscall.SIGKILL)
		return err
	})
	if err != nil {
		return fmt.Errorf("start ZooKeeper: %w", err)
	}
	return nil
}

// throughZooKeeper turns the settings of a broker of KRaft into those of one
// that uses ZooKeeper.
func (c *Cluster) throughZooKeeper(b *broker, properties map[string]string) {
	maps.DeleteFunc(properties, func(name, _ string) bool {
		return strings.HasPrefix(name, "controller.") || strings.HasPrefix(name, "share.") ||
			name == "process.roles" || name == "node.id" || strings.HasPrefix(name, "broker.")
	})
	for _, name := range []string{"listeners", "listener.security.protocol.map"} {
		properties[name] = strings.Join(slices.DeleteFunc(strings.Split(properties[name], ","), func(listener string) bool {
			return strings.HasPrefix(listener, "CONTROLLER:")
		}), ",")
	}
	maps.Copy(properties, map[string]string{
		"broker.id": strconv.Itoa(b.node), "zookeeper.connect": c.zookeeper.address(),
		"zookeeper.session.timeout.ms": "4000", "zookeeper.connection.timeout.ms": "60000",
	})
	if c.options.Authorizer {
		properties["authorizer.class.name"] = "kafka.security.authorizer.AclAuthorizer"
	}
}
