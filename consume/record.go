package consume

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
)

// Record is a record of Kafka. A consumer owns it from the moment at which it is
// delivered: it must not be changed any more.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time
	Key       []byte // nil: the record has none
	Value     []byte
	Headers   []Header
}

// Header is a header of a record.
type Header struct {
	Name  string
	Value []byte
}

// Header returns the value of the last header of a name, as Kafka's own clients
// do, and whether there is one.
func (r *Record) Header(name string) (value string, found bool) {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Name == name {
			return string(r.Headers[i].Value), true
		}
	}
	return "", false
}

// String says where the record is, in the notation of Kafka's own tools.
func (r *Record) String() string { return fmt.Sprintf("%s-%d@%d", r.Topic, r.Partition, r.Offset) }

// Event returns the CloudEvent in the record, whatever its mode. Extensions of
// the binary mode are strings, because a header of Kafka has no type.
func (r *Record) Event() (event.Event, error) {
	m := message{r}
	if m.ReadEncoding() == binding.EncodingUnknown {
		return event.Event{}, fmt.Errorf("record %s: %w", r, errNoCloudEvent)
	}
	if version, found := r.Header("ce_specversion"); found && specs.Version(version) == nil {
		return event.Event{}, fmt.Errorf("record %s: specversion %q, but this consumer knows 1.0 and 0.3", r, version)
	}
	decoded, err := binding.ToEvent(context.Background(), m)
	if err == nil {
		err = decoded.Validate()
	}
	if err != nil {
		return event.Event{}, fmt.Errorf("record %s is no valid CloudEvent: %w", r, oneLine{err})
	}
	return *decoded, nil
}

// oneLine is an error of the SDK, which writes a line for each attribute.
type oneLine struct{ error }

func (o oneLine) Error() string {
	return strings.ReplaceAll(strings.TrimSpace(o.error.Error()), "\n", "; ")
}

func (o oneLine) Unwrap() error { return o.error }

var (
	errNoCloudEvent = errors.New("no CloudEvent: neither the header ce_specversion nor a content-type application/cloudevents+json")

	specs = spec.WithPrefix("ce_")
)

// message lets the CloudEvents SDK read a record. See the Kafka protocol binding,
// sections 3.1 to 3.3.
type message struct{ *Record }

var _ binding.MessageMetadataReader = message{}

func (m message) ReadEncoding() binding.Encoding {
	if contentType, found := m.Header("content-type"); found && isFormat(contentType) {
		return binding.EncodingStructured
	}
	if _, found := m.Header("ce_specversion"); found {
		return binding.EncodingBinary
	}
	return binding.EncodingUnknown
}

func isFormat(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && strings.HasPrefix(media, "application/cloudevents") && format.Lookup(media) != nil
}

func (m message) ReadStructured(ctx context.Context, to binding.StructuredWriter) error {
	if m.ReadEncoding() != binding.EncodingStructured {
		return binding.ErrNotStructured
	}
	contentType, _ := m.Header("content-type")
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	return to.SetStructuredEvent(ctx, format.Lookup(media), strings.NewReader(string(m.Value)))
}

func (m message) ReadBinary(ctx context.Context, to binding.BinaryWriter) error {
	if m.ReadEncoding() != binding.EncodingBinary {
		return binding.ErrNotBinary
	}
	version := specs.Version(must(m.Header("ce_specversion")))
	for i := range m.Headers {
		name, value := m.Headers[i].Name, string(m.Headers[i].Value)
		switch {
		case name == "content-type":
			if err := to.SetAttribute(version.AttributeFromKind(spec.DataContentType), value); err != nil {
				return err
			}
		case !strings.HasPrefix(name, "ce_"):
		default:
			if err := m.attribute(to, version, name, value); err != nil {
				return err
			}
		}
	}
	if len(m.Value) > 0 {
		return to.SetData(strings.NewReader(string(m.Value)))
	}
	return nil
}

func (message) attribute(to binding.BinaryWriter, version spec.Version, name, value string) error {
	if attribute := version.Attribute(name); attribute != nil {
		return to.SetAttribute(attribute, value)
	}
	return to.SetExtension(strings.TrimPrefix(name, "ce_"), value)
}

func (m message) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	version := specs.Version(must(m.Header("ce_specversion")))
	if version == nil {
		return nil, nil
	}
	attribute := version.AttributeFromKind(kind)
	if attribute == nil {
		return nil, nil
	}
	value, found := m.Header(attribute.PrefixedName())
	if !found {
		return attribute, nil
	}
	return attribute, value
}

func (m message) GetExtension(name string) any {
	if value, found := m.Header("ce_" + name); found {
		return value
	}
	return nil
}

func (message) Finish(error) error { return nil }

func must(value string, _ bool) string { return value }
