package kafka

import (
	"fmt"
	"strconv"
	"time"
)

// The settings by which a topic refuses the time of a record. Brokers older than
// 3.6 have only the last one.
const (
	limitBefore = "message.timestamp.before.max.ms"
	limitAfter  = "message.timestamp.after.max.ms"
	limitBoth   = "message.timestamp.difference.max.ms"
)

// TimeLimits are those settings of a topic that the streamer may see, with their
// values in milliseconds.
type TimeLimits map[string]int64

// TimeLimitsOf reads the settings of a topic. A topic whose records the brokers
// stamp has none.
func TimeLimitsOf(c interface {
	TopicSetting(topic, name string) (string, error)
}, topic string,
) TimeLimits {
	limits := TimeLimits{}
	if stamp, err := c.TopicSetting(topic, "message.timestamp.type"); err == nil && stamp == BrokerTime {
		return limits
	}
	for _, name := range []string{limitBefore, limitAfter, limitBoth} {
		text, err := c.TopicSetting(topic, name)
		if err != nil {
			continue
		}
		if value, err := strconv.ParseInt(text, 10, 64); err == nil {
			limits[name] = value
		}
	}
	return limits
}

// TimeLimit is the setting that refuses a record.
type TimeLimit struct {
	Name  string
	Value int64 // in milliseconds, if Known
	Known bool
}

// Against returns the setting that refused a record of this age, which is
// negative for a time to come. A record was too old only if a setting says so:
// the clock of the brokers may be behind.
func (l TimeLimits) Against(age time.Duration) TimeLimit {
	oldest := l.limit(limitBefore)
	if age < 0 || oldest.Known && age.Milliseconds() < oldest.Value {
		return l.limit(limitAfter)
	}
	return oldest
}

// Refuses returns the setting that refuses records of this age, and whether one
// is known to.
func (l TimeLimits) Refuses(age time.Duration) (limit TimeLimit, refuses bool) {
	if limit = l.limit(limitBefore); age < 0 {
		limit = l.limit(limitAfter)
	}
	return limit, limit.Known && age.Abs().Milliseconds() > limit.Value
}

func (l TimeLimits) limit(name string) TimeLimit {
	if value, known := l[name]; known {
		return TimeLimit{name, value, true}
	}
	if value, known := l[limitBoth]; known {
		return TimeLimit{limitBoth, value, true}
	}
	return TimeLimit{Name: name}
}

func (l TimeLimit) String() string {
	if !l.Known {
		return l.Name + " (its value is not known)"
	}
	return fmt.Sprintf("%s = %d", l.Name, l.Value)
}

// Remedy is what can be done about the setting of a topic.
func (l TimeLimit) Remedy(topic string) string {
	if l.Name == limitAfter {
		return fmt.Sprintf("synchronise the clocks of PostgreSQL, Kafka and the streamer, or raise %s of topic %q, "+
			"or set message.timestamp.type=LogAppendTime there", l.Name, topic)
	}
	return fmt.Sprintf("set %s of topic %q to a day (86400000) or more, or set message.timestamp.type=LogAppendTime there", l.Name, topic)
}
