package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// Task is what the streamer needs requests for.
type Task int

// The tasks. Without Fencing or Creating the streamer can do with less.
const (
	// Publishing needs record batches, idempotence, and reading back.
	Publishing Task = iota
	// Fencing needs the transactions that keep other producers out.
	Fencing
	// Creating needs the creation of topics.
	Creating
)

// need is the newest version of a request that brokers must know at least, by
// the protocol's numbers.
type need struct {
	key     int16
	name    string
	version int16
}

func (n need) String() string {
	if n.version == 0 {
		return n.name
	}
	return fmt.Sprintf("%s %d", n.name, n.version)
}

var needs = map[Task][]need{
	Publishing: {{0, "Produce", 3}, {1, "Fetch", 4}, {2, "ListOffsets", 1}, {3, "Metadata", 4}, {22, "InitProducerId", 0}},
	Fencing:    {{10, "FindCoordinator", 1}, {22, "InitProducerId", 0}, {24, "AddPartitionsToTxn", 0}, {26, "EndTxn", 0}},
	Creating:   {{19, "CreateTopics", 0}},
}

// Lacks names the requests for a task that some broker of the cluster does not
// know, each with the version needed unless any will do. The error is about a
// broker that does not answer; what the others lack is returned even then.
func (c *Client) Lacks(task Task) (lacking []string, err error) {
	known := c.requests()
	for _, versions := range known.brokers {
		for _, n := range needs[task] {
			if newest, knows := versions[n.key]; !knows || newest < n.version {
				lacking = append(lacking, n.String())
			}
		}
	}
	slices.Sort(lacking)
	return slices.Compact(lacking), known.silent
}

// knowledge is the newest version of each request, for each broker that has
// answered, and the error of one that has not.
type knowledge struct {
	brokers []map[int16]int16
	silent  error
}

// requests asks the brokers what they know. It does not ask a second time,
// because a broker that does not answer takes its time.
func (c *Client) requests() knowledge {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != nil {
		return *c.known
	}
	brokers, asked, err := askBrokers(c, knownRequests)
	if missing := asked - len(brokers); err == nil && (missing > 0 || asked == 0) {
		err = fmt.Errorf("requests that brokers know: %d of %d do not answer: %w", missing, asked, sarama.ErrOutOfBrokers)
	}
	found := knowledge{brokers, err}
	if len(brokers) > 0 {
		c.known = &found
	}
	return found
}

func knownRequests(broker *sarama.Broker) (map[int16]int16, error) {
	response, err := broker.ApiVersions(&sarama.ApiVersionsRequest{})
	if err == nil && response.ErrorCode != 0 {
		err = sarama.KError(response.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("requests that broker %d knows: %w", broker.ID(), err)
	}
	versions := map[int16]int16{}
	for _, k := range response.ApiKeys {
		versions[k.ApiKey] = k.MaxVersion
	}
	return versions, nil
}

// CanPublish refuses brokers that lack what publishing needs. Without
// InitProducerId, a batch without an answer could not be sent again without the
// risk of a repeat or of another order.
func (c *Client) CanPublish() error {
	lacking, _ := c.Lacks(Publishing) // brokers that do not answer are waited for elsewhere
	if len(lacking) == 0 {
		return nil
	}
	return failure.Refuse(failure.Advise(
		fmt.Errorf("connect to Kafka at %v: brokers do not support %s", c.config.Brokers, strings.Join(lacking, ", ")),
		otherBrokers,
	))
}

const otherBrokers = "use Kafka 2.4 or later, or a compatible broker with idempotent producers"

// unknownRequest reports whether an error says that a broker does not know a
// request.
func unknownRequest(err error) bool {
	return errors.Is(err, sarama.ErrUnsupportedVersion) || errors.Is(err, sarama.ErrInvalidRequest) || errors.Is(err, errHungUp)
}

// CanFence returns ErrUnsupported if brokers lack what keeps other producers
// out.
func (c *Client) CanFence() error {
	lacking, _ := c.Lacks(Fencing)
	if len(lacking) == 0 {
		return nil
	}
	return unsupported(errors.New("they lack " + strings.Join(lacking, ", ")))
}

func unsupported(reason error) error {
	return failure.Advise(
		fmt.Errorf("%w: %w", ErrUnsupported, reason),
		"use brokers with transactions, or set kafka.resume to at_least_once to accept repeats after a crash",
	)
}
