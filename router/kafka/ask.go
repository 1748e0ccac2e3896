package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
)

// answerPatience is how long a round waits for brokers that do not answer.
const answerPatience = 2 * time.Second

// askBrokers asks all brokers at the same time. It does not wait for a broker
// that does not answer; that request ends by its own timeout. err is the error
// of one broker that could not be asked.
func askBrokers[T any](c *Client, ask func(*sarama.Broker) (T, error)) (answers []T, asked int, err error) {
	type answer struct {
		content T
		err     error
	}
	brokers := c.client.Brokers()
	heard := make(chan answer, len(brokers))
	for _, broker := range brokers {
		go func() {
			_ = broker.Open(c.client.Config()) // it may be open already
			content, err := ask(broker)
			if err != nil {
				_ = broker.Close() // so that the next request reconnects
			}
			heard <- answer{content, err}
		}()
	}
	timer := time.NewTimer(answerPatience)
	defer timer.Stop()
	for range brokers {
		select {
		case a := <-heard:
			if a.err != nil {
				err = a.err
				continue
			}
			answers = append(answers, a.content)
		case <-timer.C:
			return answers, len(brokers), err
		}
	}
	return answers, len(brokers), err
}

// askAny asks some broker, and asks again if it had closed an idle connection.
func askAny[T any](c *Client, ask func(*sarama.Broker) (T, error)) (answer T, err error) {
	for range 2 {
		broker := c.client.LeastLoadedBroker()
		if broker == nil {
			return answer, sarama.ErrOutOfBrokers
		}
		if answer, err = ask(broker); err != nil {
			_ = broker.Close() // so that the next request reconnects
		}
		if !Closed(err) {
			break
		}
	}
	return answer, err
}

// A broker that does not know a request may close the connection instead of
// saying so. So does a broker that stops, but not again and again, while it
// answers other requests.
const (
	fewestHangUps  = 5
	hangUpPatience = 3 * time.Second
)

// hangUps counts how often in a row a broker has closed the connection on a
// request.
type hangUps struct {
	count int
	since time.Time
}

// permanent notes an error, and reports whether the broker does not know the
// request.
func (h *hangUps) permanent(c *Client, broker *sarama.Broker, err error) bool {
	if !Closed(err) {
		h.count = 0
		return false
	}
	if h.count++; h.count == 1 {
		h.since = time.Now()
	}
	if h.count < fewestHangUps || time.Since(h.since) < hangUpPatience {
		return false
	}
	_ = broker.Open(c.client.Config())
	_, err = broker.ApiVersions(&sarama.ApiVersionsRequest{})
	return err == nil
}

// errHungUp means that a broker closes the connection instead of answering one
// kind of request.
var errHungUp = errors.New("broker closes the connection on this request and answers others")

// persist finds a broker and asks it, and again while the answer is one that
// changes by itself. It returns the last error. A request that the broker does
// not know ends it at once.
func (c *Client) persist(
	ctx context.Context, find func() (*sarama.Broker, error), ask func(*sarama.Broker) (sarama.KError, error),
) error {
	var ignored hangUps
	for wait := pausesFrom(coordinatorPause); ; {
		broker, err := find()
		if err == nil {
			var code sarama.KError
			if code, err = ask(broker); err == nil && code == sarama.ErrNoError {
				return nil
			} else if err == nil {
				err = code
			} else {
				_ = broker.Close() // the next attempt opens it again
				if ignored.permanent(c, broker, err) {
					return errHungUp
				}
			}
		}
		if !passes(err) || !wait.wait(ctx) {
			return err
		}
	}
}
