package router

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
