package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// shortestRetention is the least time an operator needs to return from a
// weekend and decide.
const shortestRetention = 7 * 24 * time.Hour

// deadLetters checks the topic and looks for rows that wait for a decision. The
// outputs are the topics that rows come from.
func (d *doctor) deadLetters(ctx context.Context, client *kafka.Client, outputs []string) {
	if !d.cfg.HasDeadLetters() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	topic := d.cfg.Poison.Topic
	what := "dead letter topic " + topic
	existing, err := client.Exist(ctx, topic)
	found := len(existing) > 0
	switch {
	case err != nil:
		d.outcome(err, what, "")
		return
	case !found && uncreatable(client) != "":
		d.say(Warned, what, "does not exist, and "+uncreatable(client)+": the first row that cannot be published stops the streamer", elsewhere)
		return
	case !found && d.cfg.Kafka.Topics.Create:
		d.say(Fine, what, "does not exist; the first dead letter creates it", "")
		return
	case !found:
		d.say(Warned, what, "does not exist, and kafka.topics.create is false: "+
			"the first row that cannot be published stops the streamer", "create the topic with `streamer setup`")
		return
	}
	if !d.deadLetterSettings(client, topic, what, outputs) {
		d.say(Fine, what, "exists, keeps its records, and accepts larger records than the output topics", "")
	}
	letters, err := router.Letters(ctx, client, topic, site.Rules(d.cfg))
	if err != nil {
		d.outcome(err, "dead letters", "")
		return
	}
	open := 0
	for _, l := range letters {
		if l.Resolution == nil {
			open++
		}
	}
	if open > 0 {
		d.say(Warned, "dead letters", fmt.Sprintf("%s in topic %q could not be published: decision pending",
			console.Counted(open, "row"), topic), "list the dead letters with `streamer dead-letters list`, and retry or drop them")
		return
	}
	d.say(Fine, "dead letters", "none waits for a decision", "")
}

// deadLetterSettings warns of settings that would lose dead letters. It reports
// whether it found any. It skips settings that the streamer has no right to
// see.
func (d *doctor) deadLetterSettings(client *kafka.Client, topic, what string, outputs []string) (warnedOf bool) {
	warn := func(meaning, remedy string) {
		d.say(Warned, what, meaning, remedy)
		warnedOf = true
	}
	if policy, err := client.TopicSetting(topic, "cleanup.policy"); err == nil && strings.Contains(policy, "compact") {
		warn("cleanup.policy="+policy+": if an aggregate ID has several dead letters, only the last one is kept", "set cleanup.policy=delete")
	}
	if retention, ok := settingOf(client, topic, "retention.ms"); ok && retention >= 0 && retention < shortestRetention.Milliseconds() {
		kept := time.Duration(retention) * time.Millisecond
		warn(fmt.Sprintf("retention.ms=%d: rows are deleted %s after they became dead letters, "+
			"decided about or not", retention, console.Age(kept)), "set retention.ms to 7 days or more, or to -1")
	}
	own, ok := settingOf(client, topic, "max.message.bytes")
	if !ok {
		return warnedOf
	}
	for _, output := range outputs {
		if largest, ok := settingOf(client, output, "max.message.bytes"); ok && own <= largest {
			warn(fmt.Sprintf("max.message.bytes=%d is not larger than that of topic %q (%d): a row "+
				"that is too large for that topic is too large for this one too, and stops the streamer", own, output, largest),
				fmt.Sprintf("set max.message.bytes to %s, which is enough for outbox.max_row_bytes",
					site.DeadLetterSettings(d.cfg)["max.message.bytes"]))
			break
		}
	}
	return warnedOf
}

func settingOf(client *kafka.Client, topic, name string) (value int64, ok bool) {
	text, err := client.TopicSetting(topic, name)
	if err != nil {
		return 0, false
	}
	value, err = strconv.ParseInt(text, 10, 64)
	return value, err == nil
}

// someTopics bounds how many topics are asked for their settings.
func someTopics(topics []string) []string {
	const most = 50
	return slices.Clip(topics[:min(len(topics), most)])
}
