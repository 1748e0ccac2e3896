package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"

	"github.com/outboxstream/streamer/internal/failure"
)

// ClientConfig is how to reach Kafka.
type ClientConfig struct {
	Brokers        []string
	ClientID       string
	Version        string // highest protocol version; empty for the highest known
	RequestTimeout time.Duration
	TLS            TLSConfig
	SASL           SASLConfig
	Topics         TopicConfig // of topics that are created
	// TopicSettings are the settings of topics that are not created like the
	// others, by topic name.
	TopicSettings map[string]map[string]string
}

// TopicConfig is how missing topics are created.
type TopicConfig struct {
	Create            bool
	Partitions        int // 0 is the broker's default
	ReplicationFactor int // 0 is the broker's default
	Configs           map[string]string
}

// dialTimeout bounds one connection attempt. There is no limit on attempts.
const dialTimeout = 5 * time.Second

// MaxRequests is how many requests a producer may have in flight on a
// connection. sarama's Broker blocks, holding its lock, when all
// MaxOpenRequests are taken. Metadata requests share the connection, so
// MaxOpenRequests is higher.
const MaxRequests = 4

// Connection is what a producer needs from the connection to a broker. A
// *sarama.Broker is one.
type Connection interface {
	AsyncProduce(*sarama.ProduceRequest, sarama.ProduceCallback) error
	Close() error
}

// Client is a connection to a Kafka cluster.
type Client struct {
	config ClientConfig
	client sarama.Client

	mu      sync.Mutex
	missing map[string]struct{} // topics confirmed to be missing
	known   *knowledge          // nil until a broker has said what it knows
}

// Connect connects to the cluster and does not retry. An error of class
// Misconfigured means that trying again will not help.
func Connect(c ClientConfig) (*Client, error) {
	config, err := saramaConfig(c)
	if err != nil {
		return nil, err
	}
	client, err := sarama.NewClient(c.Brokers, config)
	if err != nil {
		return nil, explainConnecting(c, config, err)
	}
	// sarama has not connected yet. A request proves that addresses, encryption
	// and credentials are right. A partition without a leader does not matter
	// here.
	if err := client.RefreshMetadata(); err != nil && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
		_ = client.Close()
		return nil, explainConnecting(c, config, err)
	}
	return &Client{config: c, client: client, missing: map[string]struct{}{}}, nil
}

// explainConnecting explains why no broker could be used. Where sarama's error
// does not say, the brokers are asked.
func explainConnecting(c ClientConfig, config *sarama.Config, err error) error {
	explained := explainClient(c, config, err)
	if failure.ClassOf(explained) != failure.Transient {
		return explained
	}
	if cause := diagnose(c, config); cause != nil {
		return explainClient(c, config, cause)
	}
	return explained
}

func explainClient(c ClientConfig, config *sarama.Config, err error) error {
	described := fmt.Errorf("connect to Kafka at %v: %w", c.Brokers, err)
	var invalid sarama.ConfigurationError
	switch {
	case errors.As(err, &invalid):
		return failure.Misconfigure(described)
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed), errors.Is(err, sarama.ErrUnsupportedSASLMechanism),
		errors.Is(err, sarama.ErrIllegalSASLState):
		return failure.Misconfigure(failure.Advise(explainToken(config, described), "%s", cmp.Or(c.SASL.Advice, "check kafka.sasl")))
	case unknownRequest(err):
		return failure.Refuse(failure.Advise(described, otherBrokers))
	case errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return failure.Refuse(failure.Advise(described,
			"grant the streamer's principal Write on the output topics, and before Kafka 2.8 also IdempotentWrite on the cluster"))
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failure.Misconfigure(failure.Advise(described, "check kafka.tls.ca_file and kafka.tls.server_name"))
	}
	if alerted(err) {
		return failure.Misconfigure(failure.Advise(described, "check kafka.tls.cert_file and kafka.tls.key_file"))
	}
	return described
}

// sarama keeps histograms of everything it sends. The streamer does not expose
// them.
func init() { metrics.UseNilMetrics = true }

func saramaConfig(c ClientConfig) (*sarama.Config, error) {
	config := sarama.NewConfig()
	config.ClientID = c.ClientID
	config.Version = sarama.MaxVersion
	if c.Version != "" {
		version, err := sarama.ParseKafkaVersion(c.Version)
		if err != nil {
			return nil, failure.Misconfigure(fmt.Errorf("kafka.version: %q is not a version such as 3.6.0", c.Version))
		}
		if !version.IsAtLeast(sarama.V2_4_0_0) {
			return nil, failure.Misconfigure(fmt.Errorf("kafka.version: %s is older than 2.4.0, the oldest that can be used", c.Version))
		}
		config.Version = version
	}
	config.Net.DialTimeout = dialTimeout
	config.Net.MaxOpenRequests = MaxRequests + 2
	// A response may take as long as the broker waits for its replicas.
	config.Net.ReadTimeout = c.RequestTimeout + 10*time.Second
	config.Net.WriteTimeout = c.RequestTimeout
	// Only the Producer waits and retries.
	config.Metadata.Retry.Max = 0
	config.Metadata.RefreshFrequency = 0
	config.Metadata.Full = false
	config.Metadata.AllowAutoTopicCreation = false
	config.Admin.Timeout = c.RequestTimeout
	if err := c.TLS.apply(config); err != nil {
		return nil, failure.Misconfigure(err)
	}
	return config, c.SASL.apply(config)
}

// Close ends all connections.
func (c *Client) Close() { _ = c.client.Close() }

// refresh fetches the metadata of topics, of all without names. If brokers have
// closed idle connections, it connects again.
func (c *Client) refresh(topics ...string) error {
	err := c.client.RefreshMetadata(topics...)
	if Closed(err) {
		err = c.client.RefreshMetadata(topics...)
	}
	return err
}

// Refresh fetches a topic's metadata. A partition without a leader is not an
// error, because the others have theirs.
func (c *Client) Refresh(topic string) error {
	err := c.refresh(topic)
	if errors.Is(err, sarama.ErrLeaderNotAvailable) {
		return nil
	}
	return explainToken(c.client.Config(), err)
}

// HasTopic reports whether a broker knows a topic. That is enough where a
// missing topic is then created, because the controller decides. Otherwise see
// Exist.
func (c *Client) HasTopic(topic string) (bool, error) {
	err := c.Refresh(topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return false, nil
	}
	return err == nil, err
}

// Partitions returns the topic's partition count.
func (c *Client) Partitions(topic string) (int, error) {
	partitions, err := c.client.Partitions(topic)
	return len(partitions), err
}

// Leader returns the connection to a partition's leader.
func (c *Client) Leader(topic string, partition int32) (Connection, error) {
	broker, err := c.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	return broker, nil
}

// coordinatorPatience is how long a cluster that has just started may take to
// load the state it needs for producer ids.
const coordinatorPatience = 10 * time.Second

// InitProducerID requests a new producer id and its epoch.
func (c *Client) InitProducerID(ctx context.Context) (id int64, epoch int16, err error) {
	timed, cancel := context.WithTimeout(ctx, coordinatorPatience)
	defer cancel()
	err = c.persist(timed, c.inTurn(), func(broker *sarama.Broker) (sarama.KError, error) {
		response, err := broker.InitProducerID(&sarama.InitProducerIDRequest{
			Version: c.newest(2, sarama.V2_7_0_0, 4), ProducerID: -1, ProducerEpoch: -1,
		})
		if err != nil {
			return 0, err
		}
		id, epoch = response.ProducerID, response.ProducerEpoch
		return response.Err, nil
	})
	switch {
	case err == nil:
		return id, epoch, nil
	case ctx.Err() != nil:
		return 0, 0, context.Cause(ctx)
	default:
		return 0, 0, explainClient(c.config, c.client.Config(), err)
	}
}

// inTurn returns a function that returns one broker after the other.
func (c *Client) inTurn() func() (*sarama.Broker, error) {
	next := rand.IntN(math.MaxInt16) // not all streamers ask the same one first
	return func() (*sarama.Broker, error) {
		brokers := c.client.Brokers()
		if len(brokers) == 0 {
			return nil, errors.Join(sarama.ErrOutOfBrokers, c.client.RefreshMetadata())
		}
		slices.SortFunc(brokers, func(a, b *sarama.Broker) int { return cmp.Compare(a.ID(), b.ID()) })
		broker := brokers[next%len(brokers)]
		next++
		_ = broker.Open(c.client.Config()) // it may be open already
		return broker, nil
	}
}

// Topics lists the cluster's topics whose names begin with prefix, sorted.
func (c *Client) Topics(prefix string) ([]string, error) {
	if err := c.refresh(); err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	all, err := c.client.Topics()
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return len(name) < len(prefix) || name[:len(prefix)] != prefix })
	slices.Sort(all)
	return all, nil
}

// IsAmong reports whether a topic has one of these names, or begins like one of
// these.
func IsAmong(topic string, names, prefixes []string) bool {
	begins := func(prefix string) bool { return strings.HasPrefix(topic, prefix) }
	return slices.Contains(names, topic) || slices.ContainsFunc(prefixes, begins)
}

// TopicSetting reads one setting of a topic.
func (c *Client) TopicSetting(topic, name string) (string, error) {
	response, err := c.describeConfigs(sarama.TopicResource, func(*sarama.Broker) string { return topic }, name)
	if err != nil {
		return "", fmt.Errorf("settings of topic %q: %w", topic, err)
	}
	for _, d := range response.Resources {
		if code := sarama.KError(d.ErrorCode); code != sarama.ErrNoError {
			return "", fmt.Errorf("settings of topic %q: %w", topic, &sarama.DescribeConfigError{Err: code, ErrMsg: d.ErrorMsg})
		}
		for _, entry := range d.Configs {
			if entry.Name == name {
				return entry.Value, nil
			}
		}
	}
	return "", fmt.Errorf("topic %q has no setting %s", topic, name)
}

// describeConfigs asks some broker for settings of a topic, or of the broker
// itself, by name.
func (c *Client) describeConfigs(
	kind sarama.ConfigResourceType, of func(*sarama.Broker) string, names ...string,
) (*sarama.DescribeConfigsResponse, error) {
	return askAny(c, func(broker *sarama.Broker) (*sarama.DescribeConfigsResponse, error) {
		return broker.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1, Resources: []*sarama.ConfigResource{
			{Type: kind, Name: of(broker), ConfigNames: names},
		}})
	})
}
