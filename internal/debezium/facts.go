package debezium

// Slot returns the replication slot that the connector reads.
func (c Connector) Slot() string { return c.value("slot.name", "debezium") }

// EventTimestamp returns the column from which the router takes the times of
// records, or an empty string.
func (c Connector) EventTimestamp() string {
	for _, name := range c.routers() {
		if column := c.value("transforms."+name+".table.field.event.timestamp", ""); column != "" {
			return column
		}
	}
	return ""
}
