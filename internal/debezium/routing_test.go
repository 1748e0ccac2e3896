package debezium

import (
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// topicFor is the topic that the streamer gives to an aggregate type.
func (r routing) topicFor(aggregateType string) string {
	topic := r.topic
	for _, route := range r.routes {
		if ok, _ := path.Match(route.AggregateType, aggregateType); ok {
			topic = route.Topic
			break
		}
	}
	return strings.ReplaceAll(topic, wholeValue, aggregateType)
}

// What can be derived gives each value the topic that Kafka Connect's own
// RegexRouter (4.1.2), which the Outbox Event Router uses, has given it:
// testdata/routing.json is what that class has answered.
func TestRoutingIsThatOfKafkaConnect(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/routing.json")
	require.NoError(t, err)
	var rules []struct {
		Regex, Replacement string
		Topics             map[string]string
	}
	require.NoError(t, json.Unmarshal(text, &rules))
	derived := 0
	for _, rule := range rules {
		found, err := deriveRouting(rule.Regex, rule.Replacement)
		if err != nil {
			continue // nothing is claimed; TestRoutingRefuses says why
		}
		derived++
		for value, topic := range rule.Topics {
			assert.Equal(t, topic, found.topicFor(value), "%s -> %s of %s: %+v", rule.Regex, rule.Replacement, value, found)
		}
	}
	assert.Greater(t, derived, 28)
}

func TestRoutingRefuses(t *testing.T) {
	t.Parallel()
	for regex, want := range map[string]string{
		`(?=order).*`:                         "a lookaround",
		`(?!order).*`:                         "a lookaround",
		`(?<=x)order`:                         "a lookaround",
		`(?<!x)order`:                         "a lookaround",
		`(?>order).*`:                         "an atomic group",
		`(a)\1`:                               "a backreference",
		`(?<x>a)\k<x>`:                        "a backreference",
		`order.*+`:                            "a possessive quantifier",
		`order.{1,3}+`:                        "a possessive quantifier",
		`[a-z&&[^b]].*`:                       "an intersection of character classes",
		`[a[bc]]`:                             "a character class inside another",
		`order\Z`:                             "an escape that only Java has",
		`\p{javaLowerCase}.*`:                 "a property that only Java has",
		`(?x)order`:                           "a flag that only Java has",
		`(?i)order`:                           "ignores case",
		`(.*?)`:                               "takes as little as possible",
		`x??`:                                 "takes as little as possible",
		`[a-z]+`:                              "neither a constant nor any text",
		`order_\d`:                            "neither a constant nor any text",
		`(x|order)+`:                          "neither a constant nor any text",
		`order\b`:                             "neither a constant nor any text",
		`order|order.*`:                       "may match the beginning of another",
		`(`:                                   "not one that Go can read",
		`(a|b)(c|d)(e|f)(g|h)(i|j)(k|l)(m|n)`: "more than 64 alternatives",
	} {
		_, err := deriveRouting(regex, "topic")
		require.Error(t, err, regex)
		assert.Contains(t, err.Error(), want, regex)
	}
	for replacement, want := range map[string]string{
		`x.$1`:   "",
		`$2`:     "followed by no group",
		`$`:      "followed by no group",
		`${x}`:   `a group "x"`,
		`${`:     "followed by no group",
		`x\`:     "ends with a backslash",
		`a\$b$0`: "",
	} {
		_, err := deriveRouting("(.*)", replacement)
		if want == "" {
			require.NoError(t, err, replacement)
		} else {
			require.ErrorContains(t, err, want, replacement)
		}
	}
	_, err := deriveRouting(`com\.example\.(.*)`, "$1")
	assert.ErrorContains(t, err, "only a part of the value")
}
