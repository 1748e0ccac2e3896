package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// principal is the role and the user that the scripts of `setup --print` are
// for, in PostgreSQL and in Kafka.
const principal = "streamer"

// followScripts executes the scripts of `setup --print` literally, and makes
// the streamer connect as the role and the user of the scripts.
func (r *rig) followScripts(arguments ...string) {
	r.t.Helper()
	printed, code := r.command(append([]string{"setup", "--print"}, arguments...)...)
	require.Zero(r.t, code, printed)
	sql, kafka, found := strings.Cut(printed, "# Kafka.\n")
	require.True(r.t, found, printed)
	for statement := range strings.SplitSeq(sql, ";\n") {
		r.exec(statement)
	}
	r.exec("alter role " + principal + " password '" + passwordCanary + "'")
	r.dsn = dsnOf(r.t, r.dsn, func(u *url.URL) { u.User = url.UserPassword(principal, passwordCanary) })
	for line := range strings.Lines(kafka) {
		if command, flags, _ := strings.Cut(strings.TrimSpace(line), " "); command == "kafka-topics.sh" {
			r.createTopic(flagsOf(flags))
		} else if command == "kafka-acls.sh" {
			r.allow(flagsOf(flags))
		} else {
			require.True(r.t, command == "" || command == "#", line)
		}
	}
}

// flagsOf returns the values of a command's flags. Nothing in these tests needs
// quotes.
func flagsOf(line string) map[string][]string {
	flags := map[string][]string{}
	var flag string
	for word := range strings.FieldsSeq(line) {
		if name, ok := strings.CutPrefix(word, "--"); ok {
			flag = name
		} else {
			flags[flag] = append(flags[flag], word)
		}
	}
	return flags
}

// createTopic does what kafka-topics.sh does.
func (r *rig) createTopic(flags map[string][]string) {
	r.t.Helper()
	config := map[string]string{}
	for _, setting := range flags["config"] {
		name, value, _ := strings.Cut(setting, "=")
		config[name] = value
	}
	partitions, err := strconv.Atoi(flags["partitions"][0])
	require.NoError(r.t, err)
	require.NoError(r.t, r.kafka.CreateTopic(r.t.Context(), flags["topic"][0], partitions, config))
}

// allow does what kafka-acls.sh does.
func (r *rig) allow(flags map[string][]string) {
	r.t.Helper()
	assert.Equal(r.t, []string{"User:" + principal}, flags["allow-principal"])
	resource := sarama.Resource{ResourcePatternType: sarama.AclPatternLiteral}
	if slices.Equal(flags["resource-pattern-type"], []string{"prefixed"}) {
		resource.ResourcePatternType = sarama.AclPatternPrefixed
	}
	for name, kind := range map[string]sarama.AclResourceType{
		"topic":            sarama.AclResourceTopic,
		"transactional-id": sarama.AclResourceTransactionalID,
	} {
		if values := flags[name]; values != nil {
			resource.ResourceType, resource.ResourceName = kind, values[0]
		}
	}
	var operations []sarama.AclOperation
	for _, name := range flags["operation"] {
		var operation sarama.AclOperation
		require.NoError(r.t, operation.UnmarshalText([]byte(name)))
		operations = append(operations, operation)
	}
	require.NoError(r.t, r.kafka.Allow(r.t.Context(), principal, resource, operations...))
}

// The scripts of `setup --print` are all that a streamer needs, with every
// store and with the features that need more rights: dead letters, a kept past,
// cleaning up, shards.
func TestPrintedScriptsAreEnough(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{Authorizer: true, Users: map[string]string{principal: passwordCanary}})
	for name, c := range map[string]struct {
		settings       []string
		aggregateTypes []string // types whose topics are created beforehand
	}{
		"topics are created when needed": {settings: []string{"checkpoint.store=kafka"}},
		"topics are there": {
			settings:       []string{"checkpoint.store=postgres", "kafka.topics.create=false"},
			aggregateTypes: []string{"order", "invoice"},
		},
		"at least once": {settings: []string{"checkpoint.store=file", "kafka.resume=at_least_once"}},
		"shards":        {settings: []string{"checkpoint.store=kafka", "shard.count=2", "shard.index=0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.New(t, pgtest.Options{}) // roles belong to the whole server
			if name == "shards" && server.Version() < 150_000 {
				t.Skip("row filters are newer")
			}
			r := newRig(t, "", withServer(server), withKafka(cluster))
			r.slot = "s" + r.slot[max(0, len(r.slot)-40):]
			r.lines = append([]string{
				"kafka.sasl.mechanism=PLAIN", "kafka.sasl.username=" + principal,
				"kafka.sasl.password=" + passwordCanary, "kafka.sasl.allow_plaintext=true",
				"outbox.columns.time=created_at", "outbox.cleanup.mode=delete", "outbox.cleanup.retention=1h",
				"outbox.cleanup.interval=100ms",
				"rewind.keep=1h", "poison.policy=dead-letter", "poison.topic=" + r.letterTopic(),
			}, c.settings...)
			var flags []string
			for _, aggregateType := range c.aggregateTypes {
				flags = append(flags, "--topic", r.topic(aggregateType))
			}
			r.followScripts(flags...)
			if name == "shards" {
				r.start("shard.index=1", "http.listen=")
			}
			r.usesEverything()
		})
	}
}

// usesEverything streams, cleans up, replays, and runs every command that only
// looks.
func (r *rig) usesEverything() {
	r.t.Helper()
	p := r.startReady()
	p.logged("rewind slot created")
	r.exec("alter table outbox alter type drop not null")
	r.exec(`insert into outbox (aggregatetype, aggregateid, type, payload, created_at)
		select 'order', 'o' || n, case when n % 10 > 0 then 't' end, ` +
		`jsonb_build_object('n', n), now() - interval '1 day' from generate_series(1, 100) n`)
	p.eventually("the table is empty", func() bool { return r.count() == 0 })
	mine := len(r.records("order"))
	assert.Positive(r.t, mine)
	letters := r.letters()
	assert.NotEmpty(r.t, letters)
	for _, arguments := range [][]string{
		{"replay", "--from", "beginning"},
		{"status"},
		{"checkpoint", "show", "--history"},
		{"dead-letters", "show", letters[0].ID},
		{"dead-letters", "drop", letters[0].ID, "--yes"},
		{"tail", "--from", "beginning", "--limit", "1", r.topic("order")},
		{"setup"},
	} {
		output, code := r.command(arguments...)
		assert.Zero(r.t, code, fmt.Sprint(arguments, output))
	}
	assert.Greater(r.t, len(r.records("order")), mine, "some of it was published again")
	found, _ := r.doctor()
	for _, f := range found {
		assert.NotEqual(r.t, "FAIL", f.Verdict, f)
	}
	assert.Zero(r.t, p.stop())
	p.discreet()
	p = r.startReady() // reads back
	assert.Zero(r.t, p.stop())
}

// The output of a crash shows neither what is in flight nor passwords.
func TestCrashOutputIsDiscreet(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.New(t, kafkatest.Options{})
	r := newRig(t, outboxTable, withKafka(cluster)).withPassword()
	p := r.startReady()
	r.numbered("o1", 1)
	r.published(p, "o1", 1)
	r.inFlight(p, 0) // a record can be read before the streamer knows that it is there
	require.NoError(t, cluster.PauseBroker(0))
	r.numbered("o1", 2, 3, 4)
	r.inFlight(p, 3)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGQUIT))
	assert.NotZero(t, p.code())
	assert.Contains(t, p.log.String(), "goroutine ")
	p.discreet()
}
