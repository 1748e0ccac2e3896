package consume

// window is what is known of the records of a partition that were delivered and
// are not committed: in the order of their offsets, which of them are done.
type window struct {
	open  []*entry
	ready folded
}

type entry struct {
	item *item
	done bool
}

// folded is what can be committed: everything below next is done.
type folded struct {
	next    int64              // 0: nothing new
	streams map[arrival]string // the last sequence
	sources []string
	ids     []string
}

func (w *window) add(i *item) *entry {
	e := &entry{item: i}
	w.open = append(w.open, e)
	return e
}

// advance moves what is done without a gap to what can be committed, and returns
// how many records that were.
func (w *window) advance(keep bool) (passed int) {
	for passed < len(w.open) && w.open[passed].done {
		w.ready.take(w.open[passed].item, keep)
		w.open[passed] = nil
		passed++
	}
	w.open = w.open[passed:]
	return passed
}

func (f *folded) take(i *item, keep bool) {
	f.next = i.Offset + 1
	if !i.position.ordered {
		return
	}
	if f.streams == nil {
		f.streams = map[arrival]string{}
	}
	f.streams[i.arrival()] = max(f.streams[i.arrival()], i.position.sequence)
	if !keep && !i.skip {
		f.sources, f.ids = append(f.sources, i.source), append(f.ids, i.id)
	}
}

// merge puts back what could not be committed, before what came later.
func (f *folded) merge(earlier folded) {
	if f.next == 0 {
		f.next = earlier.next
	}
	for a, sequence := range earlier.streams {
		if f.streams == nil {
			f.streams = map[arrival]string{}
		}
		f.streams[a] = max(f.streams[a], sequence)
	}
	f.sources, f.ids = append(earlier.sources, f.sources...), append(earlier.ids, f.ids...)
}
