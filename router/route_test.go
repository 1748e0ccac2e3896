package router

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/kafkatest/model"
	"github.com/outboxstream/streamer/router/kafka"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	constants := names{"table": "public.outbox", "schema": "public", "database": "shop"}
	e := numbered(1, "Order Line/ß", "k")
	e.Extensions = []decoder.Extension{{Name: "tenantid", Value: []byte("t1")}, {Name: "empty"}}
	extensions := []string{"tenantid", "empty"}
	for _, test := range []struct{ text, want, escaped string }{
		{"", "", ""},
		{"plain", "plain", "plain"},
		{"a.{schema}.b", "a.public.b", "a.public.b"},
		{"{schema}{database}", "publicshop", "publicshop"},
		{"{table}", "public.outbox", "public.outbox"},
		{"{aggregate_type}", "Order Line/ß", "Order%20Line%2F%C3%9F"},
		{"x/{aggregate_type}/{tenantid}", "x/Order Line/ß/t1", "x/Order%20Line%2F%C3%9F/t1"},
		{"{aggregate_id}-{aggregate_id}", "k-k", "k-k"},
		{"{id}", "event-1", "event-1"},
		{"100%/{type}", "100%/order.placed", "100%/order.placed"},
	} {
		parsed, err := parseTemplate("kafka.topic", test.text, constants, coreColumns, extensions)
		require.NoError(t, err, test.text)
		got, err := parsed.append([]byte("before "), e, false)
		require.NoError(t, err, test.text)
		assert.Equal(t, "before "+test.want, string(got))
		got, err = parsed.append(nil, e, true)
		require.NoError(t, err, test.text)
		assert.Equal(t, test.escaped, string(got))
	}
	for _, test := range []struct{ text, problem string }{
		{"{", "unmatched brace"},
		{"}", "unmatched brace"},
		{"a{b", "unmatched brace"},
		{"a}b{id}", "unmatched brace"},
		{"{id}}", "unmatched brace"},
		{"{{id}}", "unknown placeholder"},
		{"{}", "unknown placeholder"},
		{"{ id }", "unknown placeholder"},
		{"{ID}", "unknown placeholder"},
		{"{aggregateid}", "unknown placeholder"},
		{"{payload}", "unknown placeholder"},
		{"{time}", "unknown placeholder"},
		{"{subject}", "outbox.columns.subject"},
		{"{topic}", "outbox.columns.topic"},
	} {
		_, err := parseTemplate("kafka.topic", test.text, constants, coreColumns, extensions)
		require.ErrorContains(t, err, test.problem, test.text)
		require.ErrorContains(t, err, "kafka.topic", test.text)
	}
	for _, text := range []string{"{empty}", "x{empty}y"} {
		parsed, err := parseTemplate("kafka.key", text, constants, coreColumns, extensions)
		require.NoError(t, err)
		_, err = parsed.append(nil, e, false)
		require.ErrorContains(t, err, "{empty}")
	}
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		"", "outbox.event.{aggregate_type}", "{", "}{", "{{id}}", "{id}{type}", "x{tenantid}", "{schema}.{nothing}",
	} {
		f.Add(text, "v ß/%")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if value == "" {
			t.Skip("an empty value is refused")
		}
		constants := names{"schema": "S"}
		extensions := []string{"tenantid"}
		parsed, err := parseTemplate("key", text, constants, coreColumns, extensions)
		if err != nil {
			return
		}
		e := &decoder.Event{Extensions: []decoder.Extension{{Name: "tenantid", Value: []byte(value)}}}
		replaced := []string{"{schema}", "S", "{tenantid}", value}
		for a := range coreColumns {
			e.SetAttribute(a, []byte(value))
			replaced = append(replaced, "{"+a.String()+"}", value)
		}
		got, err := parsed.append(nil, e, false)
		require.NoError(t, err)
		require.Equal(t, strings.NewReplacer(replaced...).Replace(text), string(got))
		escaped := appendEscaped(nil, []byte(value))
		require.NoError(t, checkURI(append([]byte("/"), escaped...)), "escaped values fit into a URI")
		back, err := url.PathUnescape(string(escaped))
		require.NoError(t, err)
		require.Equal(t, value, back)
		if constant, ok := parsed.constant(); ok {
			require.Equal(t, constant, string(got))
			require.NotContains(t, text, "{tenantid}")
		}
	})
}

func TestRoute(t *testing.T) {
	t.Parallel()
	rules := someRules()
	rules.Tables[0].Columns = maps.Clone(coreColumns)
	rules.Tables[0].Columns[decoder.Topic], rules.Tables[0].Columns[decoder.PartitionKey] = "topic", "partition_key"
	rules.Tables[0].Routes = []Rule{
		{AggregateType: "invoice", Topic: "billing", Mode: Structured},
		{AggregateType: "audit*", Key: "{id}", NullPayload: NullReject},
		{AggregateType: "[xy]?", Topic: "short.{aggregate_type}", Key: "constant"},
		{AggregateType: "auditor", Topic: "never"}, // the first match wins
	}
	routes, err := NewRouter(rules)
	require.NoError(t, err)
	for _, test := range []struct {
		aggregateType, topic, key string
		mode                      Mode
		null                      NullPayload
	}{
		{"order", "outbox.event.order", "k-1", Binary, NullJSON},
		{"invoice", "billing", "k-1", Structured, NullJSON},
		{"invoices", "outbox.event.invoices", "k-1", Binary, NullJSON},
		{"audit", "outbox.event.audit", "event-1", Binary, NullReject},
		{"auditor", "outbox.event.auditor", "event-1", Binary, NullReject},
		{"x1", "short.x1", "constant", Binary, NullJSON},
	} {
		d, err := routes.Route(numbered(1, test.aggregateType, "k-1"))
		require.NoError(t, err)
		assert.Equal(t, test.topic, string(d.Topic))
		assert.Equal(t, test.key, string(d.Key))
		assert.Equal(t, test.mode, d.Mode)
		assert.Equal(t, test.null, d.NullPayload)
	}
	e := numbered(1, "invoice", "k-1")
	e.SetAttribute(decoder.Topic, []byte("of.the.row"))
	e.SetAttribute(decoder.PartitionKey, []byte("key of the row"))
	d, err := routes.Route(e)
	require.NoError(t, err)
	assert.Equal(t, "of.the.row", string(d.Topic), "the row's own topic takes precedence")
	assert.Equal(t, "key of the row", string(d.Key))

	for _, topic := range []string{
		"a b", "größe", "a/b", "__consumer_offsets", ".", "..", "a\x00", strings.Repeat("a", 250),
		"streamer.checkpoints", "streamer_checkpoints", "outbox.dead-letters", "outbox_dead-letters",
	} {
		e.SetAttribute(decoder.Topic, []byte(topic))
		_, err := routes.Route(e)
		require.Error(t, err, topic)
		assert.Contains(t, failure.Describe(err), "correct the row's aggregate type", topic)
	}
	for _, topic := range []string{strings.Repeat("a", 249), "streamer-checkpoints", "outbox.dead_letters"} {
		e.SetAttribute(decoder.Topic, []byte(topic))
		_, err = routes.Route(e)
		require.NoError(t, err)
	}
}

// The slices of a destination do not overwrite each other when the scratch
// memory grows.
func TestRouteScratch(t *testing.T) {
	t.Parallel()
	rules := someRules()
	rules.Tables[0].Source, rules.Tables[0].Type, rules.Tables[0].Key = "/{aggregate_type}/{id}", "type.{type}.{id}", "{aggregate_id}/{id}"
	routes, err := NewRouter(rules)
	require.NoError(t, err)
	for i := range 200 {
		e := numbered(i, strings.Repeat("t", i+1), strings.Repeat("k", 2*i+1))
		d, err := routes.Route(e)
		require.NoError(t, err)
		id := string(e.Attribute(decoder.ID))
		assert.Equal(t, "outbox.event."+strings.Repeat("t", i+1), string(d.Topic))
		assert.Equal(t, strings.Repeat("k", 2*i+1)+"/"+id, string(d.Key))
		assert.Equal(t, "/"+strings.Repeat("t", i+1)+"/"+id, string(d.source))
		assert.Equal(t, "type.order.placed."+id, string(d.typ))
	}
}

func TestNewRouterRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil   func(*Rules)
		problem string
	}{
		"unknown placeholder":      {func(r *Rules) { r.Tables[0].Topic = "x.{aggregatetype}" }, "kafka.topic"},
		"placeholder in a route":   {func(r *Rules) { r.Tables[0].Routes = []Rule{{AggregateType: "a", Key: "{nope}"}} }, "routes[0].key"},
		"pattern":                  {func(r *Rules) { r.Tables[0].Routes = []Rule{{AggregateType: "a["}} }, "routes[0].aggregate_type"},
		"source":                   {func(r *Rules) { r.Tables[0].Source = "" }, "source"},
		"type":                     {func(r *Rules) { r.Tables[0].Type = "" }, "type"},
		"data content type":        {func(r *Rules) { r.Tables[0].DataContentType = "no media type;;" }, "cloudevents"},
		"extension name":           {func(r *Rules) { r.Tables[0].Extensions = []string{"tenant_id"} }, "tenant_id"},
		"schema that is not a URI": {func(r *Rules) { r.Tables[0].DataSchema = "a b:" }, "dataschema"},
		"constant topic":           {func(r *Rules) { r.Tables[0].Topic = "no topic!" }, "kafka.topic"},
		"constant topic of a route": {
			func(r *Rules) { r.Tables[0].Routes = []Rule{{AggregateType: "a", Topic: "no topic!"}} }, "routes[0].topic",
		},
		"topic of the checkpoints": {func(r *Rules) { r.Tables[0].Topic = "streamer.checkpoints" }, "streamer.checkpoints"},
		"checkpoints in a route": {func(r *Rules) {
			r.Tables[0].Routes = []Rule{{AggregateType: "a", Topic: "streamer.checkpoints"}}
		}, "streamer.checkpoints"},
		"topic that belongs to Kafka": {func(r *Rules) { r.Tables[0].Topic = "__transaction_state" }, "__"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := someRules()
			test.spoil(&rules)
			_, err := NewRouter(rules)
			require.ErrorContains(t, err, test.problem)
			require.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		})
	}
}

// The fingerprint changes with everything that affects topic or partition, and
// with nothing else.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	base := func() Rules {
		r := someRules()
		r.Tables[0].Topic, r.Partitioner = "{schema}.{database}.{aggregate_type}.{tenantid}", "murmur2"
		r.Tables[0].Extensions = []string{"tenantid"}
		r.Tables[0].Columns = maps.Clone(coreColumns)
		r.Tables[0].Routes = []Rule{{AggregateType: "a", Topic: "t", Key: "{id}"}, {AggregateType: "b"}}
		return r
	}
	seen := map[string]string{base().Fingerprint(): "base"}
	for name, change := range map[string]func(*Rules){
		"topic":           func(r *Rules) { r.Tables[0].Topic = "x.{aggregate_type}" },
		"key":             func(r *Rules) { r.Tables[0].Key = "{id}" },
		"partitioner":     func(r *Rules) { r.Partitioner = "crc32" },
		"route's pattern": func(r *Rules) { r.Tables[0].Routes[0].AggregateType = "c" },
		"route's topic":   func(r *Rules) { r.Tables[0].Routes[0].Topic = "u" },
		"route's key":     func(r *Rules) { r.Tables[0].Routes[0].Key = "{type}" },
		"order of routes": func(r *Rules) { slices.Reverse(r.Tables[0].Routes) },
		"one route less":  func(r *Rules) { r.Tables[0].Routes = r.Tables[0].Routes[:1] },
		"column of topic": func(r *Rules) { r.Tables[0].Columns[decoder.Topic] = "topic" },
		"column of key":   func(r *Rules) { r.Tables[0].Columns[decoder.PartitionKey] = "topic" },
		"columns with slashes 1": func(r *Rules) {
			r.Tables[0].Columns[decoder.PartitionKey], r.Tables[0].Columns[decoder.Topic] = "a/b", "c"
		},
		"columns with slashes 2": func(r *Rules) {
			r.Tables[0].Columns[decoder.PartitionKey], r.Tables[0].Columns[decoder.Topic] = "a", "b/c"
		},
		"column of aggregate id": func(r *Rules) { r.Tables[0].Columns[decoder.AggregateID] = "other" },
		"column of type":         func(r *Rules) { r.Tables[0].Columns[decoder.AggregateType] = "other" },
		"schema in the topic":    func(r *Rules) { r.Tables[0].Schema = "other" },
		"messages":               func(r *Rules) { r.Tables[0].Messages = "orders" },
		"another prefix":         func(r *Rules) { r.Tables[0].Messages = "stock" },
		"another table":          func(r *Rules) { r.Tables = append(r.Tables, someRules().Tables[0]) },
		"database in the topic":  func(r *Rules) { r.Database = "other" },
	} {
		r := base()
		change(&r)
		fingerprint := r.Fingerprint()
		assert.Len(t, fingerprint, 16)
		assert.Empty(t, seen[fingerprint], "%s does not change it", name)
		seen[fingerprint] = name
	}
	same := base()
	same.Tables[0].Mode, same.Tables[0].NullPayload, same.StreamID = Structured, NullReject, "z"
	same.Tables[0].Source, same.Tables[0].Type = "x", "y"
	same.Tables[0].Columns[decoder.Time], same.Tables[0].Columns[decoder.Subject] = "at", "about"
	assert.Equal(t, base().Fingerprint(), same.Fingerprint())
}

// Values from Java's client. order-42 of 12 for each partitioner.
func TestPartitionOfKey(t *testing.T) {
	t.Parallel()
	// From the test of Kafka's own Utils.murmur2.
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		assert.Equal(t, want, int32(javaMurmur2([]byte(key))), key)
	}
	for name, want := range map[string]int32{"murmur2": 0, "": 0, "fnv1a": 8, "crc32": 10} {
		at := &topic{name: "t", partitioner: kafka.NewPartitioner(name, "t")}
		at.addPartitions(FoundTopic{Partitions: make([]FoundPartition, 12)}, nil)
		assert.Equal(t, want, at.partitionOf([]byte("order-42")).id, name)
		for i := range 1000 {
			key := fmt.Appendf(nil, "%d%s", i, strings.Repeat("ü", i%30))
			first := at.partitionOf(key)
			assert.Same(t, first, at.partitionOf(key), "the same key, the same partition")
			if name == "murmur2" {
				assert.EqualValues(t, partitionFor(string(key), 12), first.id)
			}
		}
		assert.NotNil(t, at.partitionOf([]byte{}), "an empty key also has a partition")
		first, second := at.partitionOf([]byte{}), at.partitionOf([]byte{})
		assert.Same(t, first, second)
	}
}

// Every code that sarama knows has a class, and only these are not retried.
func TestClassify(t *testing.T) {
	t.Parallel()
	for class, codes := range map[class][]sarama.KError{
		accepted:   {sarama.ErrDuplicateSequenceNumber},
		outOfOrder: {sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID},
		tooLarge:   {sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge},
		hopeless:   {sarama.ErrInvalidRecord, sarama.ErrPolicyViolation},
		untimely:   {sarama.ErrInvalidTimestamp},
		unknown:    {sarama.ErrUnknownTopicOrPartition, sarama.ErrTopicAuthorizationFailed},
		fenced:     {sarama.ErrInvalidProducerEpoch, sarama.ErrProducerFenced, sarama.ErrInvalidProducerIDMapping},
	} {
		for _, code := range codes {
			assert.Equal(t, class, classify(code), code)
			assert.Equal(t, class, classify(fmt.Errorf("wrapped: %w", code)), code)
		}
	}
	for _, code := range transient {
		assert.Contains(t, []int{int(retryable), int(unknown)}, int(classify(code)), code)
	}
	assert.Equal(t, retryable, classify(model.ErrCut))
	assert.Equal(t, tooLarge, classify(sarama.PacketEncodingError{Info: "too large"}))
	assert.Equal(t, accepted, classify(nil))
}
