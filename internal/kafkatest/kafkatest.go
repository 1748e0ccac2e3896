// Package kafkatest runs real Apache Kafka clusters for tests and for the demo.
// KRaft brokers (each a controller as well) run from the jars of Maven Central,
// without containers. STREAMER_TEST_KAFKA_VERSION names another version than
// [DefaultVersion]; brokers older than 3.3 get a ZooKeeper. Data is in a
// temporary folder, ports are free ones of 127.0.0.1. The package needs Java 17
// and Maven, or Docker, or a cluster given in STREAMER_TEST_KAFKA_BROKERS.
//
//	func TestMain(m *testing.M) { os.Exit(kafkatest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		cluster := kafkatest.Shared(t)
//		topic := cluster.NewTopic(t, 3, nil)
//
// A test that kills or pauses brokers starts a separate cluster with [New]. The
// sub-package fake is a broker in this process, for scripted faults.
package kafkatest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outboxstream/streamer/internal/testserver"
)

const (
	patience     = 10 * time.Second // for a graceful shutdown
	startTimeout = 90 * time.Second // for all brokers, on a busy machine
)

// Options of a cluster. The zero value is one broker without authentication.
type Options struct {
	// Brokers is their number; 0 is 1.
	Brokers int
	// Settings override the settings of server.properties on every broker.
	Settings map[string]string
	// Features are finalised at these levels from the beginning, for example
	// transaction.version; the rest at the default of [Version]. Older versions
	// than 4.0 may not know how.
	Features map[string]int
	// Authorizer enables ACLs: what is not allowed is denied, except to [Admin].
	// Clients must authenticate.
	Authorizer bool
	// Users and their passwords. If there are any, or with Authorizer, clients
	// authenticate with SASL/PLAIN; [Admin] is added if it is not among them.
	Users map[string]string
	// DiskBytes gives each broker a separate disk of this size, for
	// [Cluster.FillDisk]; 0: the disk of the temporary folder. This needs root on
	// Linux; otherwise errors wrap [testserver.ErrMissing].
	DiskBytes int64
	// Proxied creates a proxy for a listener of broker i (from 0) and returns the
	// address that [Cluster.ProxiedBrokers] and the broker give to clients. It may
	// be called again for a broker whose ports were taken by others, and must not
	// wait for the broker. May be nil.
	Proxied func(i int, listener string) (address string, err error)
	// JVMOptions are added to those of the brokers, for example "-Xmx1g".
	JVMOptions []string
	// Progress is told about downloads. May be nil.
	Progress func(string)
}

// Cluster is a running Kafka cluster. Starting, stopping and signalling
// brokers are not for concurrent use; everything else is.
type Cluster struct {
	options    Options
	launcher   launcher
	folder     *testserver.Folder
	id         string
	brokers    []*broker
	zookeeper  *broker  // nil unless the version needs it
	configured []string // addresses of an existing cluster
}

// Start starts a cluster and waits until its brokers answer. The cluster ends
// with this process, or earlier with Close. If STREAMER_TEST_KAFKA_BROKERS is
// set ("host:port,host:port") and the options ask for nothing special, that
// cluster is returned, and stopping or closing it does nothing. Errors wrap
// [testserver.ErrMissing] if Kafka is not available.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	addresses := os.Getenv("STREAMER_TEST_KAFKA_BROKERS")
	if addresses != "" && !options.special() {
		return &Cluster{configured: strings.Split(addresses, ",")}, nil
	}
	return startOwn(ctx, options)
}

// special reports whether an existing cluster cannot be what is asked for.
func (o Options) special() bool {
	return o.Brokers > 1 || len(o.Settings) > 0 || len(o.Features) > 0 || o.sasl() || o.DiskBytes > 0 || o.Proxied != nil
}

func startOwn(ctx context.Context, options Options) (*Cluster, error) {
	options.Brokers = max(options.Brokers, 1)
	c := &Cluster{options: options, id: newClusterID()}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close()) //nolint:contextcheck // cleaning up outlives the context
	}
	return c, nil
}

func (c *Cluster) open(ctx context.Context) (err error) {
	if c.launcher, err = findLauncher(ctx, c.options.Progress); err != nil {
		return fmt.Errorf("find Kafka: %w", err)
	}
	if c.folder, err = testserver.NewFolder("", "kafka"); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := c.startNew(ctx)
		portTaken := slices.ContainsFunc(c.nodes(), func(b *broker) bool {
			return strings.Contains(b.log(), "Address already in use")
		})
		if err == nil || attempt == 5 || !portTaken {
			return err
		}
		if err := c.discard(); err != nil { //nolint:contextcheck // as above
			return err
		}
	}
}

// startNew formats and starts all brokers, on new ports.
func (c *Cluster) startNew(ctx context.Context) error {
	if usesZooKeeper() {
		if err := c.startZooKeeper(ctx); err != nil {
			return err
		}
	}
	if err := c.newBrokers(ctx); err != nil {
		return err
	}
	if err := c.format(ctx); err != nil {
		return err
	}
	return c.StartAgain(ctx)
}

// format prepares the disks of all brokers, which those with ZooKeeper do
// themselves.
func (c *Cluster) format(ctx context.Context) error {
	if usesZooKeeper() {
		return nil
	}
	return sideBySide(ctx, c.brokers, func(ctx context.Context, b *broker) error {
		return b.format(ctx, c.id, c.options.Features)
	})
}

// StartAgain starts all brokers that are not running, on the same data and
// ports, and waits until they answer and know each other.
func (c *Cluster) StartAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	// Not one after the other: a broker needs a majority to become ready.
	err := sideBySide(ctx, c.brokers, func(ctx context.Context, b *broker) error {
		if b.running() {
			return nil
		}
		return c.startBroker(ctx, b)
	})
	if err != nil {
		return err
	}
	return c.awaitAll(ctx)
}

// sideBySide calls do for all brokers at the same time; an error cancels the
// context of the others.
func sideBySide(ctx context.Context, brokers []*broker, do func(context.Context, *broker) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(brokers))
	var all sync.WaitGroup
	for i, b := range brokers {
		all.Go(func() {
			if errs[i] = do(ctx, b); errs[i] != nil {
				cancel(fmt.Errorf("broker %d has failed", b.node))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Brokers returns the addresses to which clients connect first, in order of
// node ID.
func (c *Cluster) Brokers() []string {
	if c.configured != nil {
		return c.configured
	}
	addresses := make([]string, len(c.brokers))
	for i, b := range c.brokers {
		addresses[i] = b.address()
	}
	return addresses
}

// StartBroker starts broker i (from 0) again, on the same data and ports, and
// waits until it answers.
func (c *Cluster) StartBroker(ctx context.Context, i int) error {
	b, err := c.broker(i)
	if err != nil {
		return err
	}
	if b.running() {
		return fmt.Errorf("start broker %d: it is running", i)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	return c.startBroker(ctx, b)
}

// StopBroker shuts broker i down cleanly: it hands over its leaderships first.
// A broker that does not end within 10 s is killed, and an error says so.
func (c *Cluster) StopBroker(i int) error {
	b, err := c.broker(i)
	if err != nil {
		return err
	}
	return b.stop()
}

// KillBroker ends broker i with SIGKILL.
func (c *Cluster) KillBroker(i int) error {
	b, err := c.broker(i)
	if err != nil {
		return err
	}
	b.kill()
	return nil
}

// PauseBroker stops broker i with SIGSTOP: its connections stay open and
// nothing answers.
func (c *Cluster) PauseBroker(i int) error {
	b, err := c.broker(i)
	if err != nil {
		return err
	}
	return b.pause()
}

// ResumeBroker lets a paused broker continue.
func (c *Cluster) ResumeBroker(i int) error {
	b, err := c.broker(i)
	if err != nil {
		return err
	}
	return b.resume()
}

// Log returns the output of broker i so far, across restarts; nothing after
// Close.
func (c *Cluster) Log(i int) string {
	b, err := c.broker(i)
	if err != nil {
		return err.Error()
	}
	return b.log()
}

// PID returns the process ID of broker i, 0 if it was never started.
func (c *Cluster) PID(i int) int {
	b, err := c.broker(i)
	if err != nil || b.process == nil {
		return 0
	}
	return b.process.PID()
}

// DataDir returns the data directory of broker i.
func (c *Cluster) DataDir(i int) string {
	b, err := c.broker(i)
	if err != nil {
		return ""
	}
	return b.dataDir()
}

func (c *Cluster) broker(i int) (*broker, error) {
	if c.configured != nil {
		return nil, fmt.Errorf("broker %d belongs to the cluster of STREAMER_TEST_KAFKA_BROKERS: %w", i, testserver.ErrMissing)
	}
	if i < 0 || i >= len(c.brokers) {
		return nil, fmt.Errorf("broker %d: there are %d", i, len(c.brokers))
	}
	return c.brokers[i], nil
}

// Stop shuts all brokers down cleanly; the data stays for [Cluster.StartAgain].
// Several brokers take about 6 s, because the last have no majority to report
// to any more. A broker that does not end within 10 s is killed, and an error
// says so.
func (c *Cluster) Stop() error {
	return sideBySide(context.Background(), c.brokers, func(_ context.Context, b *broker) error { return b.stop() })
}

// Close kills all brokers and removes their data.
func (c *Cluster) Close() error {
	err := c.discard()
	if c.folder == nil || err != nil {
		return err
	}
	return c.folder.Remove()
}

// discard ends the brokers and removes their disks.
func (c *Cluster) discard() error {
	c.kill()
	var errs []error
	for _, b := range c.brokers {
		errs = append(errs, b.unmount())
	}
	return errors.Join(errs...)
}

func (c *Cluster) kill() {
	for _, b := range c.nodes() {
		b.kill()
	}
}

// nodes returns the brokers and their ZooKeeper, if they have one.
func (c *Cluster) nodes() []*broker {
	if c.zookeeper == nil {
		return c.brokers
	}
	return append(slices.Clone(c.brokers), c.zookeeper)
}

// newClusterID returns a random ID in Kafka's notation.
func newClusterID() string {
	var bytes [16]byte
	rand.Read(bytes[:])
	bytes[0] &= 0x7f // no leading "-", which a command line takes for an option
	return base64.RawURLEncoding.EncodeToString(bytes[:])
}
