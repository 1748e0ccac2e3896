package kafkatest

// Running reports whether the process of broker i is running; a full disk, for
// example, ends it.
func (c *Cluster) Running(i int) bool {
	b, err := c.broker(i)
	return err == nil && b.running()
}
