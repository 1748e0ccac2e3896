package kafka

import (
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// fetchBytes is how much of a partition one fetch brings; a larger batch comes
// whole.
const fetchBytes = 1 << 20

// fetchRequest asks for no fetch session (epoch -1), of which brokers keep only
// a few.
func fetchRequest(wait time.Duration, maxBytes int32) *sarama.FetchRequest {
	return &sarama.FetchRequest{Version: 11, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxBytes, SessionEpoch: -1}
}

// fetchEach asks all brokers at the same time. err is that of one which did not
// answer; the others' answers are there.
func fetchEach(requests map[*sarama.Broker]*sarama.FetchRequest) (answers []*sarama.FetchResponse, err error) {
	var asked sync.WaitGroup
	var mu sync.Mutex
	for broker, request := range requests {
		asked.Go(func() {
			response, failed := broker.Fetch(request)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				_ = broker.Close() // so that it is connected to anew
				err = failed
				return
			}
			answers = append(answers, response)
		})
	}
	asked.Wait()
	return answers, err
}

// visitBatch hands out the records of a batch from an offset on; control records
// are passed over.
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
