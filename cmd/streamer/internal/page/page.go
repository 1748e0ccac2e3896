package page

import (
	"context"
	"sync"
	"time"

	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// Sources are where the page gets what it shows. Any goroutine may call them.
type Sources struct {
	Status  func() pipeline.Status
	Lag     func() (behind time.Duration, known bool)
	Company func() pipeline.Company
	Figures func() ops.Figures
	Entries func() []ops.Entry
}

const (
	// beat is the time between two looks at the lag, and between two updates of
	// the viewers.
	beat = time.Second
	// mostViewers bounds how many may watch.
	mostViewers = 32
)

// Page is the status page. It is an [http.Handler]; Run keeps it alive.
type Page struct {
	sources Sources
	about   About

	mu      sync.Mutex
	history *history
	figures ops.Figures
	seen    time.Time // when the figures were read
	whole   []byte    // the rendered page, of that time; nil: not rendered since
	viewers viewers
}

// New prepares a page.
func New(about About, sources Sources) *Page {
	return &Page{about: about, sources: sources, history: newHistory(time.Now()), viewers: newViewers()}
}

// Run measures, and updates the viewers, until ctx is done. Then it says goodbye
// to them, so that no request is left.
func (p *Page) Run(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		p.tick(time.Now())
		select {
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			p.viewers.dismiss()
			return
		case <-ticker.C:
		}
	}
}

// tick measures the lag. It reads everything else less often while nobody
// watches.
func (p *Page) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history.lagged(p.sources.Lag())
	if p.viewers.watching() || p.history.due(now) {
		p.look(now)
	}
	if p.viewers.watching() {
		p.viewers.update(now, p.view(now))
	}
}

func (p *Page) look(now time.Time) {
	p.figures, p.seen, p.whole = p.sources.Figures(), now, nil
	p.history.look(now, p.figures)
}

// render returns the whole page. However often it is asked for, it is rendered
// once a second.
func (p *Page) render(now time.Time) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole == nil || now.Sub(p.seen) >= beat {
		p.look(now)
		p.whole = renderPage(p.view(now))
	}
	return p.whole
}

// subscribe adds a viewer, and gives it everything that there is to see.
func (p *Page) subscribe(now time.Time) (*viewer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.viewers.add(now, func(now time.Time) View {
		if now.Sub(p.seen) >= beat {
			p.look(now)
		}
		return p.view(now)
	})
}

func (p *Page) unsubscribe(v *viewer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.viewers.remove(v)
}
