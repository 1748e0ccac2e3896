package kafka

import (
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// fetchBytes is how much of a partition one fetch returns. A larger batch is
// returned whole.
const fetchBytes = 1 << 20

// fetchRequest returns a request without a fetch session (epoch -1), because
// brokers keep only a few sessions.
func fetchRequest(wait time.Duration, maxBytes int32) *sarama.FetchRequest {
	return &sarama.FetchRequest{Version: 11, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxBytes, SessionEpoch: -1}
}

// fetchEach sends the requests to all brokers at the same time. err is the
// error of one broker that did not answer. The answers of the other brokers are
// returned even then.
func fetchEach(requests map[*sarama.Broker]*sarama.FetchRequest) (answers []*sarama.FetchResponse, err error) {
	var asked sync.WaitGroup
	var mu sync.Mutex
	for broker, request := range requests {
		asked.Go(func() {
			response, failed := broker.Fetch(request)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				_ = broker.Close() // so that the next request reconnects
				err = failed
				return
			}
			answers = append(answers, response)
		})
	}
	asked.Wait()
	return answers, err
}

// visitBatch calls visit for the records of a batch from an offset on. Control
// records are skipped.
func visitBatch(batch *sarama.RecordBatch, from int64, visit func(int64, *sarama.Record) error) error {
	if batch.Control {
		return nil
	}
	for _, r := range batch.Records {
		offset := batch.FirstOffset + r.OffsetDelta
		if offset < from {
			continue // the fetch began inside a batch
		}
		if err := visit(offset, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) fetch(topic string, partition int32, offset int64) ([]*sarama.RecordBatch, error) {
	broker, err := c.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	request := fetchRequest(500*time.Millisecond, fetchBytes)
	request.AddBlock(topic, partition, offset, fetchBytes, -1)
	response, err := broker.Fetch(request)
	if err != nil {
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return nil, sarama.ErrIncompleteResponse
	}
	if block.Err != sarama.ErrNoError {
		return nil, block.Err
	}
	var batches []*sarama.RecordBatch
	for _, set := range block.RecordsSet {
		if set.RecordBatch != nil {
			batches = append(batches, set.RecordBatch)
		}
	}
	return batches, nil
}
