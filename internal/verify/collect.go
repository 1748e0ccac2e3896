package verify

import "container/heap"

// collector keeps the first findings of each kind, in stream order, and counts
// them all.
type collector struct {
	limit  int // of each kind; 0: all, passed on as they arrive
	report func(Finding) error
	kept   [kindCount]latest
	counts [kindCount]int64
}

// found takes a finding.
func (c *collector) found(f Finding) error {
	c.counts[f.Kind]++
	if c.limit == 0 {
		return c.report(f)
	}
	kept := &c.kept[f.Kind]
	switch {
	case len(*kept) < c.limit:
		heap.Push(kept, f)
	case f.less((*kept)[0]):
		(*kept)[0] = f
		heap.Fix(kept, 0)
	}
	return nil
}

// flush reports what was kept, worst kind first.
func (c *collector) flush() error {
	for kind := range c.kept {
		kept := c.kept[kind]
		ordered := make([]Finding, len(kept))
		for i := len(ordered) - 1; i >= 0; i-- {
			ordered[i] = heap.Pop(&kept).(Finding) //nolint:forcetypeassert // only findings are pushed
		}
		for _, f := range ordered {
			if err := c.report(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// latest is a heap with the last of the findings on top.
type latest []Finding

func (l latest) Len() int           { return len(l) }
func (l latest) Less(i, j int) bool { return l[j].less(l[i]) }
func (l latest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *latest) Push(x any)        { *l = append(*l, x.(Finding)) } //nolint:forcetypeassert // only findings are pushed
func (l *latest) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}
