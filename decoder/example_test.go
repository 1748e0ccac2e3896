package decoder_test

import (
	"encoding/binary"
	"fmt"

	"github.com/outboxstream/streamer/decoder"
)

// A session gives every message of its stream to one decoder, in order.
func ExampleDecoder() {
	d := decoder.New(decoder.Mapping{
		Schema: "public", Table: "outbox",
		Columns: map[decoder.Attribute]string{decoder.AggregateID: "key", decoder.Payload: "payload"},
	})
	for _, message := range stream() {
		kind, err := d.Decode(message)
		if err != nil {
			fmt.Println(err)
			return
		}
		switch kind {
		case decoder.Row:
			e := d.Event() // its bytes are valid until the next Decode
			fmt.Printf("%s: key %s, data %s\n", e.Position, e.Attribute(decoder.AggregateID), e.Data)
		case decoder.Commit:
			fmt.Printf("may be confirmed once published: %s\n", d.CommitEnd())
		case decoder.Begin, decoder.Other:
			// nothing to do
		}
	}
	// Output:
	// 0/64+1: key 42, data {"total": 1.10}
	// 0/64+2: key 43, data {}
	// may be confirmed once published: 0/82
}

// stream is what a server sends for a transaction of two rows.
func stream() [][]byte {
	lsn := func(m []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(m, n) }
	column := func(m []byte, name string, oid uint32) []byte {
		m = append(append(append(m, 0), name...), 0)
		m = binary.BigEndian.AppendUint32(m, oid)
		return append(m, 0xff, 0xff, 0xff, 0xff)
	}
	row := func(values ...string) []byte {
		m := []byte{'I', 0, 0, 0, 1, 'N', 0, byte(len(values))}
		for _, v := range values {
			m = append(binary.BigEndian.AppendUint32(append(m, 't'), uint32(len(v))), v...)
		}
		return m
	}
	relation := append([]byte("R\x00\x00\x00\x01public\x00outbox\x00d"), 0, 2)
	relation = column(column(relation, "key", 25), "payload", 3802)
	return [][]byte{
		append(lsn(lsn([]byte{'B'}, 100), 0), 0, 0, 0, 7),
		relation,
		row("42", `{"total": 1.10}`),
		row("43", `{}`),
		lsn(lsn(lsn([]byte{'C', 0}, 100), 130), 0),
	}
}
