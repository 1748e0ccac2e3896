package kafkatest

// Running tells whether the process of broker i is there; a full disk, for
// example, ends it.
func (c *Cluster) Running(i int) bool {
	b, err := c.broker(i)
	return err == nil && b.running()
}
