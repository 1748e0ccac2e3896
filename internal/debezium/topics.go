package debezium

import "strings"

// topics translates the settings of topics that Kafka Connect creates.
func (t *translator) topics() {
	const group = "topic.creation.default."
	for name := range t.options {
		setting, isDefault := strings.CutPrefix(name, group)
		switch {
		case !isDefault:
		case setting == "partitions":
			t.copied(name, "kafka.topics.partitions", orDefault)
		case setting == "replication.factor":
			t.copied(name, "kafka.topics.replication_factor", orDefault)
		case setting == "include" || setting == "exclude":
			t.lacks(name, "the default group has all topics", nothingToDo)
		default:
			t.copied(name, "kafka.topics.configs."+setting, nil)
		}
	}
	for name := range t.options {
		if _, isFound := t.findings[name]; strings.HasPrefix(name, "topic.creation.") && !isFound {
			t.lacks(name, "all topics that the streamer creates have the same settings",
				"create the topics of this group beforehand, with their settings")
		}
	}
}

// orDefault turns the number that means the brokers' default.
func orDefault(number string) (string, error) {
	if number == "-1" {
		return "0", nil
	}
	return number, nil
}
