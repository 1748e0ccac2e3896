package broker

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
)

// transactional reports whether the events are in transactions.
func (a *Arrivals) transactional() bool { return a.isolation == sarama.ReadCommitted }

// scan reads what has not been read yet, if the events are in transactions, and
// returns the count without the markers. The records of aborted transactions
// remain in it, and the audit reports them as too many.
func (a *Arrivals) scan(count int64) (int64, error) {
	if !a.transactional() {
		return count, nil
	}
	for _, p := range a.partitions {
		for a.scanned[p] < a.ends[p] {
			next, markers, err := a.look(p, a.scanned[p])
			if err != nil {
				return 0, fmt.Errorf("partition %d of topic %q at offset %d: %w", p.ID, p.Topic, a.scanned[p], err)
			}
			a.scanned[p] = next
			a.markers[p] += markers
			count -= markers
		}
	}
	return count, nil
}

// look reads some records of a partition. It returns the offset that follows
// them, and the number of markers.
func (a *Arrivals) look(p Partition, from int64) (next, markers int64, err error) {
	const some = 4 << 20
	request := &sarama.FetchRequest{Version: 11, MaxBytes: some, SessionEpoch: -1, MinBytes: 1, MaxWaitTime: 1000}
	request.AddBlock(p.Topic, p.ID, from, some, -1)
	response, err := a.leader.Fetch(request)
	if err != nil {
		return 0, 0, fmt.Errorf("fetch: %w", err)
	}
	block := response.GetBlock(p.Topic, p.ID)
	if block == nil {
		return 0, 0, errors.New("no answer")
	}
	if block.Err != sarama.ErrNoError {
		return 0, 0, block.Err
	}
	next, markers = countAll(block.RecordsSet, from)
	if next == from {
		return 0, 0, errors.New("no record")
	}
	return next, markers, nil
}

// countAll counts the control records from an offset on. The last batch may be
// truncated.
func countAll(sets []*sarama.Records, from int64) (next, markers int64) {
	next = from
	for _, records := range sets {
		batch := records.RecordBatch
		if batch == nil || batch.PartialTrailingRecord {
			break
		}
		end := batch.FirstOffset + int64(batch.LastOffsetDelta) + 1
		if batch.Control {
			markers += end - max(next, batch.FirstOffset)
		}
		next = max(next, end)
	}
	return next, markers
}
