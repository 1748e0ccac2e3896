package router

import (
	"context"

	"github.com/IBM/sarama"
)

// Existing lists the partitions of those of the topics that exist.
func (c *Client) Existing(topics []string) (map[string][]int32, error) {
	described, err := c.topicIDs(topics)
	if err != nil {
		return nil, err
	}
	partitions := map[string][]int32{}
	for topic, d := range described {
		for id := range int32(d.partitions) {
			partitions[topic] = append(partitions[topic], id)
		}
	}
	return partitions, nil
}

// Ends tells where the partitions of those of the topics that exist end.
func (c *Client) Ends(ctx context.Context, topics []string) (map[string]map[int32]int64, error) {
	existing, err := c.Existing(topics)
	if err != nil {
		return nil, err
	}
	var partitions []topicPartition
	for topic, ids := range existing {
		for _, id := range ids {
			partitions = append(partitions, topicPartition{topic, id})
		}
	}
	offsets, err := c.offsets(ctx, partitions, sarama.OffsetNewest)
	ends := map[string]map[int32]int64{}
	for part, offset := range offsets {
		if ends[part.topic] == nil {
			ends[part.topic] = map[int32]int64{}
		}
		ends[part.topic][part.id] = offset
	}
	return ends, err
}
