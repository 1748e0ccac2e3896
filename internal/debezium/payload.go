package debezium

// payload translates what becomes of the payload and of one that is NULL.
func (r *router) payload() {
	expand := r.option("table.expand.json.payload")
	isExpanded := r.isTrue(expand, false)
	if isExpanded {
		r.outbox.Defaults = map[string]string{"datacontenttype": "application/json"}
		r.differs(expand, "the payload is published as PostgreSQL holds it, and not written again: long numbers keep their digits, and "+
			"members that are null stay. outbox.defaults.datacontenttype says that it is JSON", "consumers that compare bytes",
			"outbox.defaults.datacontenttype")
	} else {
		r.same(expand, "the payload is published as PostgreSQL holds it")
	}
	for _, name := range []string{"table.json.payload.null.behavior", "table.json.payload.empty.array.behavior"} {
		if isExpanded {
			r.differs(r.option(name), "the payload is published as PostgreSQL holds it, with null members and empty arrays",
				"consumers that do not expect them")
		} else {
			r.same(r.option(name), "no effect, because the payload is not expanded")
		}
	}
	r.emptyPayload()
}

// emptyPayload translates what a payload without content becomes.
func (r *router) emptyPayload() {
	const key = "outbox.null_payload"
	name := r.option("route.tombstone.on.empty.payload")
	if r.isTrue(name, false) {
		r.outbox.NullPayload = "tombstone_if_blank"
		r.same(name, "", key)
		return
	}
	r.outbox.NullPayload = "json_null"
	if r.writes("value.converter") == asText {
		r.outbox.NullPayload = "tombstone"
		r.remark(key, "As the connector's converter writes NULL.")
	}
	r.same(name, "NULL becomes what the value converter makes of it", key)
}
