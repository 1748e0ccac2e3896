package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/outboxstream/streamer/examples/consumer"
)

// viewer reads the topics like any consumer, shows some of the events and
// counts all of them.
type viewer struct {
	screen *screen
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // why it could not go on; read only after ended is closed

	mutex    sync.Mutex
	seen     map[string]struct{} // event IDs
	repeated int
	atOnce   int       // this many of the next events are shown
	next     time.Time // from this time on, another event is shown

	// Closed with the first event.
	first chan struct{}
}

const (
	showAtOnce = 5               // at the beginning
	showEvery  = 1 * time.Second // from then on
)

// view begins to read.
func (d *demo) view(ctx context.Context) *viewer {
	ctx, cancel := context.WithCancel(ctx)
	v := &viewer{
		screen: d.screen, cancel: cancel, ended: make(chan struct{}),
		seen: make(map[string]struct{}), first: make(chan struct{}), atOnce: showAtOnce,
	}
	cfg := consumer.Config{Brokers: d.kafka.addresses, Group: d.topics.group, Topics: d.topics.events(), FromBeginning: true}
	go func() {
		defer close(v.ended)
		v.err = consumer.Run(ctx, cfg, v.receive)
	}()
	return v
}

// close stops reading and waits until it has ended.
func (v *viewer) close() error {
	v.cancel()
	<-v.ended
	return v.err
}

// published returns how many different events there have been, and how many
// records repeated one of them.
func (v *viewer) published() (events, repeated int) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	return len(v.seen), v.repeated
}

// showNext shows the next events, however soon they come.
func (v *viewer) showNext(events int) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	v.atOnce = events
}

// receive is called for every record, by one goroutine for each partition.
func (v *viewer) receive(_ context.Context, d consumer.Delivery) error {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if d.Err != nil {
		return d.Err
	}
	_, repeated := v.seen[d.Event.ID()]
	if repeated {
		v.repeated++
	}
	v.seen[d.Event.ID()] = struct{}{}
	if len(v.seen) == 1 && !repeated {
		close(v.first)
		v.showWhole(d)
		return nil
	}
	if v.atOnce == 0 && time.Now().Before(v.next) {
		return nil
	}
	v.atOnce = max(0, v.atOnce-1)
	v.next = time.Now().Add(showEvery)
	v.show(d, repeated)
	return nil
}

const indent = "            " // a little wider than the time in screen.event

// showWhole shows a record with everything in it.
func (v *viewer) showWhole(d consumer.Delivery) {
	record := d.Record
	v.screen.event(bold, "the first event, as a consumer gets it:")
	lines := [][2]string{
		{"topic", fmt.Sprintf("%s, partition %d, offset %d", record.Topic, record.Partition, record.Offset)},
		{"key", string(record.Key)},
	}
	for _, header := range record.Headers {
		lines = append(lines, [2]string{string(header.Key), string(header.Value)})
	}
	for _, line := range append(lines, [2]string{"value", string(record.Value)}) {
		name := fmt.Sprintf("%-16s", line[0])
		v.screen.line(indent + v.screen.paint(cyan, name) + v.screen.cutTo(v.screen.width-len(indent)-len(name), line[1]))
	}
}

// show shows an event in two lines: where it is and what happened to which
// aggregate, then its identity and the payload.
func (v *viewer) show(d consumer.Delivery, repeated bool) {
	mark := ""
	if repeated {
		mark = "  repeated"
	}
	place := fmt.Sprintf("%s[%d]", d.Record.Topic, d.Record.Partition)
	v.screen.event(plain, "%s  %s  key %s%s",
		v.screen.paint(cyan, fmt.Sprintf("%-24s", place)), v.screen.paint(bold, fmt.Sprintf("%-21s", d.Event.Type())),
		d.Record.Key, v.screen.paint(yellow, mark))
	sequence, _ := d.Event.Extensions()["sequence"].(string)
	identity := fmt.Sprintf("id %.8s…  sequence %s  ", d.Event.ID(), sequence)
	payload := v.screen.cutTo(v.screen.width-len(indent)-len([]rune(identity)), strings.ReplaceAll(string(d.Event.Data()), "\n", " "))
	v.screen.line(indent + v.screen.paint(dim, identity) + payload)
}
