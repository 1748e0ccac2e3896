package page

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkUpdate is what one second costs while ten watch, after an hour.
func BenchmarkUpdate(b *testing.B) {
	s := healthy()
	p := New(about(), s.sources())
	now := p.history.started
	for range kept {
		now = now.Add(sampleEvery)
		p.tick(now)
	}
	var all []*viewer
	for range 10 {
		one, err := p.subscribe(now)
		require.NoError(b, err)
		all = append(all, one)
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		p.tick(now)
		for _, one := range all {
			for len(one.updates) > 0 {
				<-one.updates
			}
		}
	}
}
