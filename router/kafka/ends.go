package kafka

import (
	"context"

	"github.com/IBM/sarama"
)

// Existing lists the partitions of each topic that exists.
func (c *Client) Existing(ctx context.Context, topics []string) (map[string][]int32, error) {
	described, err := c.LookUp(ctx, topics)
	if err != nil {
		return nil, err
	}
	partitions := map[string][]int32{}
	for topic, d := range described {
		for id := range int32(d.Partitions) {
			partitions[topic] = append(partitions[topic], id)
		}
	}
	return partitions, nil
}

// Ends returns the end offsets of the partitions of each topic that exists.
func (c *Client) Ends(ctx context.Context, topics []string) (map[string]map[int32]int64, error) {
	existing, err := c.Existing(ctx, topics)
	if err != nil {
		return nil, err
	}
	offsets, err := c.Offsets(ctx, each(existing), sarama.OffsetNewest)
	ends := map[string]map[int32]int64{}
	for part, offset := range offsets {
		if ends[part.Topic] == nil {
			ends[part.Topic] = map[int32]int64{}
		}
		ends[part.Topic][part.Partition] = offset
	}
	return ends, err
}

// each lists partitions one by one.
func each(partitions map[string][]int32) []TopicPartition {
	var all []TopicPartition
	for topic, ids := range partitions {
		for _, id := range ids {
			all = append(all, TopicPartition{topic, id})
		}
	}
	return all
}
