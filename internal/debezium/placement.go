package debezium

import (
	"fmt"
	"slices"
	"strings"
)

// placed is a column that Debezium puts somewhere besides the payload.
type placed struct{ column, where, alias string }

// placement translates table.fields.additional.placement. All that it says is
// one option, so what becomes of each column is said in one entry.
func (r *router) placement() {
	name := r.option("table.fields.additional.placement")
	value, ok := r.inPlace(name)
	if !ok {
		return
	}
	var renamed, lost, keys []string
	for field := range strings.SplitSeq(value, ",") {
		p, ok := parsePlaced(field)
		if !ok {
			lost = append(lost, "an entry that is not column:placement:alias")
			continue
		}
		says, placed := r.place(p)
		if len(placed) == 0 && says != "" {
			lost = append(lost, says)
			continue
		}
		keys = append(keys, placed...)
		if says != "" {
			renamed = append(renamed, says)
		}
	}
	slices.Sort(keys)
	says := strings.Join(slices.Concat(renamed, lost), "; ")
	switch {
	case len(keys) == 0 && len(lost) > 0:
		r.lacks(name, says, lostAction)
	case says == "":
		r.same(name, "", slices.Compact(keys)...)
	default:
		concerns := "consumers that read these headers or members"
		if len(lost) > 0 {
			concerns += ". Where something has no equivalent, " + lostAction
		}
		r.differs(name, says, concerns, slices.Compact(keys)...)
	}
}

// inPlace returns the value of an option that has to be in the file, because it
// means several keys.
func (r *router) inPlace(name string) (string, bool) {
	value := r.value(name, "")
	if reference, isReference := findReference(name, value); isReference {
		r.lacks(name, "the value is kept elsewhere: "+reference.String(), "import again with the value itself in the file")
		return "", false
	}
	return value, value != ""
}

const lostAction = "map a column that says the same in another way: outbox.columns.partition_key for a partition, " +
	"outbox.extensions for a header"

func parsePlaced(field string) (placed, bool) {
	parts := strings.Split(field, ":")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	switch {
	case len(parts) == 2:
		parts = append(parts, parts[0])
	case len(parts) != 3:
		return placed{}, false
	}
	p := placed{parts[0], strings.ToLower(parts[1]), parts[2]}
	return p, p.column != "" && p.alias != "" && slices.Contains([]string{"header", "envelope", "partition"}, p.where)
}

// place maps a column. It returns how that differs, empty if it does not, and the
// keys; without a key there is no equivalent, if it differs.
func (r *router) place(p placed) (says string, keys []string) {
	if p.where == "partition" {
		if r.isServer {
			return "", nil // it does not pass it on
		}
		return p.column + " (partition): a row cannot choose the number of its partition, which follows from the key", nil
	}
	header, key := r.attribute(p)
	isHeader := r.flavour != "" && p.where == "header" && isFree(p.alias)
	if isHeader {
		r.outbox.Headers[p.alias] = p.column
		keys = append(keys, "outbox.headers."+p.alias)
	}
	if key != "" {
		keys = append(keys, key)
	}
	switch {
	case isHeader:
		return "", keys
	case key == "":
		return fmt.Sprintf("%s (%s): the name %s is taken", p.column, p.where, p.alias), nil
	}
	return renamed(p, header), keys
}

// renamed says how the header that a column becomes differs from the one that it
// was.
func renamed(p placed, header string) string {
	switch {
	case p.where == "envelope":
		return fmt.Sprintf("%s is the header %s, and not a member %s of the value, which is the payload alone", p.column, header, p.alias)
	case p.alias == "ce_time":
		return p.column + " is the header ce_time too, in RFC 3339 and UTC"
	case header == p.alias || header == "ce_"+p.alias && slices.Contains(plainAttributes, p.alias):
		return ""
	}
	return fmt.Sprintf("%s is the header %s, and not %s", p.column, header, p.alias)
}

// attribute maps a column and returns the header that it becomes and its key.
func (r *router) attribute(p placed) (header, key string) {
	name := plainName(p.alias)
	isPrefixed := strings.HasPrefix(strings.ToLower(p.alias), "ce_") || strings.HasPrefix(strings.ToLower(p.alias), "ce-")
	if isPrefixed {
		name = plainName(p.alias[3:])
	}
	if mapped, ok := r.mapped(p, name, isPrefixed); ok {
		return mapped.header, mapped.key
	}
	if slices.Contains(reserved, name) {
		name = "x" + name
	}
	if name = name[:min(len(name), 20)]; name == "" || !r.extension(name, p.column) {
		return "", ""
	}
	return "ce_" + name, "outbox.extensions." + name
}

// attributeHeader is a header and the key of its column.
type attributeHeader struct{ header, key string }

// ownColumns are attributes with keys of their own under outbox.columns.
var ownColumns = []string{"subject", "time", "source", "dataschema", "traceparent", "tracestate", "correlationid", "causationid"}

// reserved are names of extensions that cannot be configured.
var reserved = []string{
	"id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data", "sequence", "partitionkey",
	"replay", "snapshot", "schemaversion",
}

// mapped finds the attribute that a column is already, or that its alias means.
func (r *router) mapped(p placed, name string, isPrefixed bool) (attributeHeader, bool) {
	isTold := r.has(r.option("table.field.event.type")) || r.outbox.Columns["type"] != "type"
	switch {
	case p.column == r.outbox.Columns["id"]:
		return attributeHeader{"ce_id", "outbox.columns.id"}, true
	case p.column == r.outbox.Columns["type"], !isTold && slices.Contains([]string{"type", "eventtype", "messagetype"}, name):
		r.outbox.Columns["type"] = p.column
		delete(r.remarks, "outbox.columns.type")
		return attributeHeader{"ce_type", "outbox.columns.type"}, true
	case p.column == r.outbox.Columns["time"]:
		return attributeHeader{"ce_time", "outbox.columns.time"}, true
	case p.column == r.outbox.Columns["aggregate_id"]:
		return attributeHeader{"ce_partitionkey", "outbox.columns.aggregate_id"}, true
	case p.alias == "content-type", name == "datacontenttype":
		return r.own("datacontenttype", "content-type", p)
	case isPrefixed && slices.Contains(ownColumns, name), slices.Contains(ownColumns[4:], name):
		return r.own(name, "ce_"+name, p)
	}
	return attributeHeader{}, false
}

// own maps a column of its own, unless another one is mapped already.
func (r *router) own(column, header string, p placed) (attributeHeader, bool) {
	if taken := r.outbox.Columns[column]; taken != "" && taken != p.column {
		return attributeHeader{}, false
	}
	r.outbox.Columns[column] = p.column
	return attributeHeader{header, "outbox.columns." + column}, true
}

// plainName leaves lower-case letters and digits, as names of attributes have.
func plainName(alias string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(alias))
}
