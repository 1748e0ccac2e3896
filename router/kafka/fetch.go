package kafka

import (
	"cmp"
	"slices"
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

// fetch returns the batches of a log from an offset on.
func (c *Client) fetch(log Log, offset int64) ([]*sarama.RecordBatch, error) {
	broker, err := c.client.Leader(log.Topic, log.Partition)
	if err != nil {
		return nil, err
	}
	size := int32(fetchBytes)
	if log.Small {
		size /= 8
	}
	request := fetchRequest(500*time.Millisecond, size)
	if log.Committed {
		request.Isolation = sarama.ReadCommitted
	}
	request.AddBlock(log.Topic, log.Partition, offset, size, -1)
	response, err := broker.Fetch(request)
	if err != nil {
		return nil, err
	}
	block := response.GetBlock(log.Topic, log.Partition)
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
	if log.Committed {
		dropAborted(batches, block.AbortedTransactions)
	}
	return batches, nil
}

// dropAborted empties the batches of aborted transactions. The broker names those
// that have records at or after the offset of the fetch. Each ends with the
// marker of its producer.
func dropAborted(batches []*sarama.RecordBatch, aborted []*sarama.AbortedTransaction) {
	aborted = slices.Clone(aborted)
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	producers := map[int64]bool{}
	for _, batch := range batches {
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
			producers[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		switch {
		case batch.Control:
			delete(producers, batch.ProducerID)
		case batch.IsTransactional && producers[batch.ProducerID]:
			batch.Records = nil // LastOffset remains
		}
	}
}
