package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/testserver"
)

// broker is one node: a broker and a controller in one process.
type broker struct {
	node     int // from 1
	ports    brokerPorts
	folder   string
	launcher launcher
	process  *testserver.Process // nil: never started
	proxied  string              // address of its proxy, "": none
	mounted  bool                // it has its own disk
}

type brokerPorts struct {
	client, internal, controller, proxied int
}

func (c *Cluster) newBrokers(ctx context.Context) error {
	const portsEach = 4
	ports, err := testserver.FreePorts(portsEach * c.options.Brokers)
	if err != nil {
		return err
	}
	c.brokers = make([]*broker, c.options.Brokers)
	for i := range c.brokers {
		c.brokers[i] = &broker{
			node: i + 1,
			ports: brokerPorts{
				client:     ports[portsEach*i],
				internal:   ports[portsEach*i+1],
				controller: ports[portsEach*i+2],
				proxied:    ports[portsEach*i+3],
			},
			folder:   filepath.Join(c.folder.Path, fmt.Sprintf("broker-%d-%d", i, ports[portsEach*i])),
			launcher: c.launcher,
		}
	}
	for _, b := range c.brokers {
		if err := errors.Join(c.proxy(b), c.mount(ctx, b)); err != nil {
			return err
		}
		if err := b.writeProperties(c.properties(b)); err != nil {
			return err
		}
	}
	return nil
}

// properties returns the settings of a broker. Internal topics are few and
// small, so that it starts quickly. Timeouts are short, so that its end is
// noticed quickly.
func (c *Cluster) properties(b *broker) map[string]string {
	voters := make([]string, len(c.brokers))
	for i, other := range c.brokers {
		voters[i] = fmt.Sprintf("%d@127.0.0.1:%d", other.node, other.ports.controller)
	}
	replicas := min(3, len(c.brokers))
	replication, inSync := strconv.Itoa(replicas), strconv.Itoa(max(1, replicas-1))
	properties := map[string]string{
		"process.roles":              "broker,controller",
		"node.id":                    strconv.Itoa(b.node),
		"controller.quorum.voters":   strings.Join(voters, ","),
		"controller.listener.names":  "CONTROLLER",
		"inter.broker.listener.name": "INTERNAL",
		"listeners": fmt.Sprintf(
			"CLIENT://127.0.0.1:%d,INTERNAL://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d",
			b.ports.client, b.ports.internal, b.ports.controller,
		),
		"advertised.listeners":           fmt.Sprintf("CLIENT://127.0.0.1:%d,INTERNAL://127.0.0.1:%d", b.ports.client, b.ports.internal),
		"listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                       b.dataDir(),

		"default.replication.factor":                       replication,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replication,
		"offsets.topic.num.partitions":                     "1",
		"transaction.state.log.replication.factor":         replication,
		"transaction.state.log.min.isr":                    inSync,
		"transaction.state.log.num.partitions":             "1",
		"share.coordinator.state.topic.replication.factor": replication,
		"share.coordinator.state.topic.min.isr":            inSync,
		"share.coordinator.state.topic.num.partitions":     "1",

		"auto.create.topics.enable":        "false",
		"group.initial.rebalance.delay.ms": "0",
		"broker.heartbeat.interval.ms":     "500",
		"broker.session.timeout.ms":        "4000",
		"log.retention.ms":                 "-1", // tests write records of any date
		"log.segment.bytes":                strconv.Itoa(16 << 20),
		"log.index.size.max.bytes":         strconv.Itoa(1 << 20),
		"log.cleaner.dedupe.buffer.size":   strconv.Itoa(4 << 20),
		"num.network.threads":              "2",
		"num.io.threads":                   "4",
	}
	maps.Copy(properties, c.options.securityProperties())
	b.addProxied(properties, c.options.sasl())
	if usesZooKeeper() {
		c.throughZooKeeper(b, properties)
	}
	maps.Copy(properties, c.options.Settings)
	return properties
}

func (b *broker) writeProperties(properties map[string]string) error {
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&lines, "%s=%s\n", name, strings.ReplaceAll(properties[name], `\`, `\\`))
	}
	if err := os.MkdirAll(b.folder, 0o700); err != nil {
		return fmt.Errorf("make folder of broker: %w", err)
	}
	if err := os.WriteFile(b.propertiesFile(), []byte(lines.String()), 0o600); err != nil {
		return fmt.Errorf("write server.properties: %w", err)
	}
	return nil
}

func (b *broker) address() string        { return "127.0.0.1:" + strconv.Itoa(b.ports.client) }
func (b *broker) dataDir() string        { return filepath.Join(b.folder, "data") }
func (b *broker) propertiesFile() string { return filepath.Join(b.folder, "server.properties") }
func (b *broker) logFile() string        { return filepath.Join(b.folder, "log") }

// format writes the metadata that a new broker needs in its data directory.
func (b *broker) format(ctx context.Context, clusterID string, features map[string]int) error {
	arguments := []string{"format", "-t", clusterID, "-c", b.propertiesFile()}
	for _, name := range slices.Sorted(maps.Keys(features)) {
		arguments = append(arguments, "--feature", fmt.Sprintf("%s=%d", name, features[name]))
	}
	cmd := b.launcher.command(ctx, b, "kafka.tools.StorageTool", nil, arguments...)
	err := b.withLog(cmd, func() error { return testserver.RunProcess(cmd) })
	if err != nil {
		return fmt.Errorf("format storage of broker %d: %w; its log ends with:\n%s", b.node, err, b.logTail())
	}
	return nil
}

// startBroker starts the broker and waits until it serves requests. ZooKeeper
// remembers a broker that was killed until its session expires. Until then
// another process of that broker ends at once, and is started again.
func (c *Cluster) startBroker(ctx context.Context, b *broker) error {
	for {
		logged := len(b.log())
		err := c.startProcess(ctx, b)
		if err == nil || ctx.Err() != nil || !strings.Contains(b.log()[logged:], "NodeExistsException") {
			return err
		}
	}
}

// startProcess starts the process and waits until the broker serves requests,
// which it does once the controllers have let it join.
func (c *Cluster) startProcess(ctx context.Context, b *broker) error {
	cmd := c.launcher.command(context.WithoutCancel(ctx), b, "kafka.Kafka", c.options.JVMOptions, b.propertiesFile())
	err := b.withLog(cmd, func() (err error) {
		b.process, err = testserver.StartProcess(cmd, syscall.SIGKILL)
		return err
	})
	if err == nil {
		err = c.awaitBroker(ctx, b)
	}
	if err != nil {
		err = fmt.Errorf("start broker %d: %w; its log ends with:\n%s", b.node, err, b.logTail())
		b.kill()
	}
	return err
}

func (c *Cluster) awaitBroker(ctx context.Context, b *broker) error {
	return poll(ctx, b.process.Done(), func() error {
		known, err := c.nodesKnownTo(b)
		if err == nil && !slices.Contains(known, int32(b.node)) {
			err = errors.New("not in the cluster yet")
		}
		return err
	})
}

// awaitAll waits until every broker knows every other.
func (c *Cluster) awaitAll(ctx context.Context) error {
	for _, b := range c.brokers {
		err := poll(ctx, b.process.Done(), func() error {
			known, err := c.nodesKnownTo(b)
			if err == nil && len(known) < len(c.brokers) {
				err = fmt.Errorf("knows %d of %d brokers", len(known), len(c.brokers))
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("broker %d: %w", b.node, err)
		}
	}
	return nil
}

func (c *Cluster) nodesKnownTo(b *broker) ([]int32, error) {
	config := c.Config(Admin)
	config.Net.DialTimeout = 5 * time.Second
	config.Net.ReadTimeout = 5 * time.Second
	config.Metadata.Retry.Max = 0
	client, err := sarama.NewClient([]string{b.address()}, config)
	if err != nil {
		return nil, err
	}
	var nodes []int32
	for _, known := range client.Brokers() {
		nodes = append(nodes, known.ID())
	}
	return nodes, client.Close()
}

// poll calls check until it returns nil, the process has ended, or ctx is done.
func poll(ctx context.Context, ended <-chan struct{}, check func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("the process has ended")
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (b *broker) running() bool { return b.process != nil && b.process.Running() }

func (b *broker) stop() error {
	if !b.running() {
		return nil
	}
	// A paused broker does not receive the other signal.
	if err := errors.Join(b.resume(), b.launcher.signal(b, syscall.SIGTERM)); err != nil {
		return fmt.Errorf("stop broker %d: %w", b.node, err)
	}
	select {
	case <-b.process.Done():
		return nil
	case <-time.After(patience):
		b.kill()
		return fmt.Errorf("stop broker %d: killed after %v", b.node, patience)
	}
}

func (b *broker) kill() {
	if !b.running() {
		return
	}
	// It may end on its own meanwhile; then Done is closed.
	_ = b.launcher.signal(b, syscall.SIGKILL)
	<-b.process.Done()
}

func (b *broker) pause() error {
	if err := b.launcher.signal(b, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause broker %d: %w", b.node, err)
	}
	return nil
}

func (b *broker) resume() error {
	if err := b.launcher.signal(b, syscall.SIGCONT); err != nil {
		return fmt.Errorf("resume broker %d: %w", b.node, err)
	}
	return nil
}

// withLog calls run with the output of the command redirected to the log.
func (b *broker) withLog(cmd *exec.Cmd, run func() error) error {
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of broker: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	return run()
}

func (b *broker) log() string {
	text, err := os.ReadFile(b.logFile())
	if err != nil && !os.IsNotExist(err) {
		return err.Error()
	}
	return string(text)
}

func (b *broker) logTail() string {
	text := b.log()
	const enough = 4000
	return text[max(0, len(text)-enough):]
}
