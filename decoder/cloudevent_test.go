package decoder

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/replication"
)

func logicalMessage(flags byte, at uint64, prefix, content string) []byte {
	m := binary.BigEndian.AppendUint64([]byte{'M', flags}, at)
	m = append(append(m, prefix...), 0)
	m = binary.BigEndian.AppendUint32(m, uint32(len(content)))
	return append(m, content...)
}

func messagesMapping(defaults map[Attribute]string) Mapping {
	return Mapping{Messages: "orders", Columns: MessageColumns(), Defaults: defaults}
}

// eventOf decodes a transaction with one message.
func eventOf(m Mapping, content string) (*Event, *Decoder, error) {
	d, err := inTransaction(m)
	if err != nil {
		return nil, nil, err
	}
	_, err = d.Decode(logicalMessage(1, 0x70, "orders", content))
	return d.Event(), d, err
}

const fullEvent = ` {"specversion":"1.0","id":"4711","source":"/shop/orders","type":"order.\u0070laced",
	"time":"2026-11-30T12:00:00.25+01:00","subject":"order-42","aggregatetype":"order","partitionkey":"customer-7",
	"dataschema":"https://example.com/order.json",
	"datacontenttype":"application/json; charset=utf-8","traceparent":"00-1-2-01","tenantid":"acme","attempt":-3,"urgent":true,"gone":null,
	"data":{"total": 1.50, "id":"not the event's"}} `

func TestCloudEvent(t *testing.T) {
	t.Parallel()
	e, d, err := eventOf(messagesMapping(nil), fullEvent)
	require.NoError(t, err)
	for a, want := range map[Attribute]string{
		ID: "4711", Source: "/shop/orders", Type: "order.placed", AggregateID: "order-42", AggregateType: "order", PartitionKey: "customer-7",
		DataSchema: "https://example.com/order.json", DataContentType: "application/json; charset=utf-8", TraceParent: "00-1-2-01", Subject: "",
	} {
		assert.Equal(t, want, string(e.Attribute(a)), a)
	}
	assert.Equal(t, time.Date(2026, 11, 30, 11, 0, 0, 250_000_000, time.UTC).UnixMicro(), e.Time)
	assert.Contains(t, fullEvent, `"data":`+string(e.Data)+"}", "as it is written")
	assert.JSONEq(t, `{"total": 1.50, "id": "not the event's"}`, string(e.Data))
	assert.Equal(t, JSON, e.DataKind)
	assert.Equal(t, []Extension{
		{Name: "tenantid", Value: []byte("acme")},
		{Name: "attempt", Value: []byte("-3"), Kind: Integer},
		{Name: "urgent", Value: []byte("true"), Kind: Boolean},
		{Name: "gone"},
	}, e.Extensions)
	assert.Equal(t, "messages:orders", e.Names.Name)
	assert.EqualValues(t, 1, e.Position.Ordinal)
	d.Rows(func(table string, rows int64) {
		assert.Equal(t, "messages:orders", table)
		assert.EqualValues(t, 1, rows)
	})
}

// What the SDK writes is what is read, so that applications can use it.
func TestCloudEventOfTheSDK(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*cloudevents.Event) error{
		"json":   func(e *cloudevents.Event) error { return e.SetData("application/json", map[string]int{"n": 1}) },
		"text":   func(e *cloudevents.Event) error { return e.SetData("text/plain", "a \"line\"\n\u2028") },
		"binary": func(e *cloudevents.Event) error { return e.SetData("application/octet-stream", []byte{0, 1, 255}) },
		"none":   func(*cloudevents.Event) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := cloudevents.NewEvent()
			want.SetID("1")
			want.SetSource("/s")
			want.SetType("t")
			want.SetSubject("a")
			want.SetExtension("aggregatetype", "order")
			want.SetExtension("tenant", "acme")
			want.SetExtension("count", 7)
			require.NoError(t, set(&want))
			require.NoError(t, want.Validate())
			content, err := json.Marshal(want)
			require.NoError(t, err)
			e, _, err := eventOf(messagesMapping(nil), string(content))
			require.NoError(t, err, string(content))
			assert.Equal(t, string(want.Data()), string(e.Data))
			assert.Equal(t, want.Data() != nil, e.HasData)
			assert.Equal(t, want.DataContentType(), string(e.Attribute(DataContentType)))
			assert.Len(t, e.Extensions, 2)
		})
	}
}

func TestDataOfCloudEvents(t *testing.T) {
	t.Parallel()
	const rest = `"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"a","aggregatetype":"order"`
	for name, c := range map[string]struct {
		members, data string
		kind          DataKind
		has           bool
		contentType   string
	}{
		"missing":           {"", "", JSON, false, ""},
		"null":              {`,"data":null`, "", JSON, false, ""},
		"json by default":   {`,"data":"text"`, `"text"`, JSON, true, "application/json"},
		"a suffix":          {`,"data":[1],"datacontenttype":"application/vnd.x+JSON"`, `[1]`, JSON, true, "application/vnd.x+JSON"},
		"text":              {`,"data":"a\nb","datacontenttype":"text/plain"`, "a\nb", Text, true, "text/plain"},
		"base64":            {`,"data_base64":"AAH/"`, "\x00\x01\xff", Bytes, true, ""},
		"base64, escaped":   {`,"data_base64":"AAH\/"`, "\x00\x01\xff", Bytes, true, ""},
		"base64 of nothing": {`,"data_base64":""`, "", Bytes, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _, err := eventOf(messagesMapping(nil), "{"+rest+c.members+"}")
			require.NoError(t, err)
			assert.Equal(t, c.data, string(e.Data))
			assert.Equal(t, c.kind, e.DataKind)
			assert.Equal(t, c.has, e.HasData)
			assert.Equal(t, c.contentType, string(e.Attribute(DataContentType)))
		})
	}
}

func TestContentThatIsNoCloudEvent(t *testing.T) {
	t.Parallel()
	with := func(member string) string { return strings.Replace(fullEvent, `"tenantid":"acme"`, member, 1) }
	without := func(member string) string {
		var document map[string]any
		_ = json.Unmarshal([]byte(fullEvent), &document)
		delete(document, member)
		text, _ := json.Marshal(document)
		return string(text)
	}
	for name, c := range map[string]struct{ content, reason string }{
		"nothing":           {"", "not a CloudEvent in JSON format"},
		"text":              {"heartbeat", "choose a prefix that no one else uses"},
		"another document":  {"[1]", "not a CloudEvent in JSON format"},
		"cut off":           {fullEvent[:100], "not a CloudEvent in JSON format"},
		"another object":    {`{"pid":1}`, `member "specversion": member is missing`},
		"version":           {strings.Replace(fullEvent, `"1.0"`, `"0.3"`, 1), `member "specversion": value is not 1.0`},
		"no id":             {without("id"), `member "id": member is missing`},
		"no source":         {without("source"), `member "source": member is missing`},
		"no type":           {without("type"), `member "type": member is missing`},
		"no subject":        {without("subject"), "outbox.defaults.aggregate_id"},
		"no aggregate type": {without("aggregatetype"), "outbox.defaults.aggregate_type"},
		"blank id":          {strings.Replace(fullEvent, `"4711"`, `" "`, 1), `member "id": value is empty or blank`},
		"null id":           {strings.Replace(fullEvent, `"4711"`, `null`, 1), `member "id": value is empty or blank`},
		"id is a number":    {strings.Replace(fullEvent, `"4711"`, `4711`, 1), `member "id": value is not a string`},
		"id twice":          {with(`"id":"5"`), `member "id": member is there twice`},
		"escaped id twice":  {with(`"\u0069d":"5"`), `member "id": member is there twice`},
		"data twice":        {with(`"data":1`), `member "data": member is there twice`},
		"both data":         {with(`"data_base64":""`), "the event has data as well"},
		"extension twice":   {with(`"x":1,"x":2`), `member "x": member is there twice`},
		"own extension":     {with(`"sequence":"1"`), "set by the streamer"},
		"name":              {with(`"tenant_id":"1"`), "lower-case letters and digits"},
		"no name":           {with(`"":"1"`), "lower-case letters and digits"},
		"object":            {with(`"x":{}`), "an object or an array"},
		"large number":      {with(`"x":2147483648`), "not a whole number of 32 bits"},
		"fraction":          {with(`"x":1.5`), "not a whole number of 32 bits"},
		"control character": {with(`"x":"a\u0007"`), "control characters"},
		"half a surrogate":  {with(`"x":"\ud800"`), "not valid UTF-8"},
		"bytes":             {with("\"x\":\"\xff\""), "not valid UTF-8"},
		"bytes in the data": {strings.Replace(fullEvent, "not the", "\xff", 1), "not valid UTF-8"},
		"time":              {strings.Replace(fullEvent, "2026-11-30T", "yesterday ", 1), "not a time in RFC 3339"},
		"text that is none": {
			strings.Replace(fullEvent, "application/json; charset=utf-8", "text/plain", 1),
			"not a string, although datacontenttype is not JSON",
		},
		"no base64": {strings.Replace(without("data"), `{`, `{"data_base64":"?",`, 1), "value is not base64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, d, err := eventOf(messagesMapping(nil), c.content)
			var poison *PoisonError
			require.ErrorAs(t, err, &poison)
			assert.Contains(t, poison.Reason, c.reason)
			assert.NotContains(t, poison.Reason, "acme")
			assert.EqualValues(t, 1, poison.Position.Ordinal, "it is counted, whatever becomes of it")
			columns := d.Columns()
			require.Len(t, columns, 1, "for the dead letter")
			assert.Equal(t, c.content, string(columns[0].Bytes))
			assert.Equal(t, Content, columns[0].Name)
		})
	}
}

func TestDefaultsOfMessages(t *testing.T) {
	t.Parallel()
	m := messagesMapping(map[Attribute]string{AggregateType: "order", AggregateID: "all"})
	e, _, err := eventOf(m, `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`)
	require.NoError(t, err)
	assert.Equal(t, "order", string(e.Attribute(AggregateType)))
	assert.Equal(t, "all", string(e.Attribute(AggregateID)))
	e, _, err = eventOf(m, `{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"a","aggregatetype":"own"}`)
	require.NoError(t, err)
	assert.Equal(t, "own", string(e.Attribute(AggregateType)))
	assert.Equal(t, "a", string(e.Attribute(AggregateID)))
}

// The content is in the database's encoding, as everything in the WAL is.
func TestMessageInAnotherEncoding(t *testing.T) {
	t.Parallel()
	m := messagesMapping(nil)
	m.Charset = replication.NewCharset("WIN1252")
	e, _, err := eventOf(m, strings.Replace(fullEvent, "acme", "M\xfcller \x80", 1))
	require.NoError(t, err)
	assert.Equal(t, "Müller €", string(e.Extensions[0].Value))
}

// Messages and rows of a transaction are counted together; those of others and
// those outside of transactions are not.
func TestMessagesBesideRows(t *testing.T) {
	t.Parallel()
	const content = `{"specversion":"1.0","id":"m","source":"/s","type":"t","subject":"a","aggregatetype":"order","x":"y"}`
	const fewer = `{"specversion":"1.0","id":"m","source":"/s","type":"t","subject":"a","aggregatetype":"order"}`
	d := New(outboxMapping(), messagesMapping(nil))
	var positions []replication.Position
	for _, m := range [][]byte{
		logicalMessage(0, 0x60, "orders", content), beginMessage(0x100, time.Now()), logicalMessage(1, 0x70, "other", "x"),
		outboxRelation(), outboxRow(nil), logicalMessage(1, 0x78, "orders", content), outboxRow(nil), logicalMessage(1, 0x80, "orders", fewer),
		commitMessage(0x100, 0x108), logicalMessage(0, 0x110, "other", "x"), logicalMessage(0, 0x120, "orders", "x"),
	} {
		kind, err := d.Decode(m)
		require.NoError(t, err)
		if kind == Row {
			positions = append(positions, d.Event().Position)
		}
	}
	assert.Equal(t, []replication.Position{
		{Commit: 0x100, Ordinal: 1},
		{Commit: 0x100, Ordinal: 2},
		{Commit: 0x100, Ordinal: 3},
		{Commit: 0x100, Ordinal: 4},
	}, positions)
	assert.Empty(t, d.Event().Extensions, "those of the message before are gone")
	assert.Equal(t, Loose{Prefix: "orders", Count: 2, Last: 0x120}, d.Loose())
	assert.Equal(t, Loose{}, d.Loose())
	counted := map[string]int64{}
	d.Rows(func(table string, rows int64) { counted[table] = rows })
	assert.Equal(t, map[string]int64{"public.outbox": 2, "messages:orders": 2}, counted)

	_, err := d.Decode(logicalMessage(1, 0x130, "orders", content))
	assert.ErrorContains(t, err, "outside a transaction")
}

// A dead letter becomes the event that it would have been.
func TestRestoredMessage(t *testing.T) {
	t.Parallel()
	want, d, err := eventOf(messagesMapping(nil), fullEvent)
	require.NoError(t, err)
	attributes, extensions := want.attributes, want.Extensions
	e, err := New(messagesMapping(nil)).Restore(0, NamesOfMessages("orders"), want.Position, want.CommitTime, d.Columns())
	require.NoError(t, err)
	assert.Equal(t, attributes, e.attributes)
	assert.Equal(t, extensions, e.Extensions)
	assert.Equal(t, "order-42", string(Find(MessageColumns()[AggregateID], d.Columns())))
}

// Whatever somebody writes, it is an event or is reported.
func FuzzCloudEvent(f *testing.F) {
	f.Add(fullEvent)
	f.Add(`{"specversion":"1.0","data_base64":"AA==","data":null}`)
	f.Add("{\"\\u0069d\":\"\xff\"}")
	f.Fuzz(func(t *testing.T, content string) {
		e, _, err := eventOf(messagesMapping(nil), content)
		checkEvent(t, e, err)
		if err != nil {
			return
		}
		var document map[string]any
		require.NoError(t, json.Unmarshal([]byte(content), &document))
		assert.Equal(t, "1.0", document["specversion"])
		assert.Equal(t, document["id"], string(e.Attribute(ID)))
		assert.Equal(t, document["subject"], string(e.Attribute(AggregateID)))
	})
}
