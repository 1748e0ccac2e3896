package browser

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tab is a page in the browser that keeps what the browser complains about.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	requested  []string
}

func newTab(t *testing.T, width, height int64) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(shared(t))
	b := &tab{t: t, ctx: ctx}
	var listening sync.WaitGroup
	t.Cleanup(func() {
		closeTab()
		listening.Wait()
	})
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, height)))
	hear(b, &listening, runtime.ConsoleAPICalled, &b.complaints)
	hear(b, &listening, runtime.ExceptionThrown, &b.complaints)
	hear(b, &listening, log.EntryAdded, &b.complaints)
	hear(b, &listening, audits.IssueAdded, &b.complaints)
	hear(b, &listening, network.RequestWillBeSent, &b.requested)
	call(b, runtime.Enable, cdp.Empty{})
	call(b, log.Enable, cdp.Empty{})
	call(b, audits.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	return b
}

// hear keeps the payloads of an event until the tab is closed: of a request its
// address, of everything else all of it.
func hear[E any](b *tab, listening *sync.WaitGroup, event cdp.Event[E], into *[]string) {
	payloads := chromedp.Events(b.ctx, event)
	listening.Go(func() {
		for payload, err := range payloads {
			if err != nil {
				return
			}
			text, _ := json.Marshal(payload)
			if request, ok := any(payload).(network.EventRequestWillBeSent); ok {
				text = []byte(request.Request.URL)
			}
			b.mu.Lock()
			*into = append(*into, string(text))
			b.mu.Unlock()
		}
	})
}

func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	require.NoError(b.t, err)
	return result
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

func (b *tab) load(address string) {
	b.t.Helper()
	b.run(chromedp.Navigate("http://" + address + "/"))
}

// open loads a page and waits until it is live.
func (b *tab) open(address string) {
	b.t.Helper()
	b.load(address)
	b.is("live", `document.getElementById('contact').dataset.contact === 'live'`)
}

// eval evaluates an expression.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return value
}

// is waits until an expression is true.
func (b *tab) is(what, expression string) {
	b.t.Helper()
	eventually(b.t, "the page is "+what+": "+expression, func() bool { return eval[bool](b, expression) })
}

// text is what can be read in an element.
func (b *tab) text(selector string) string {
	b.t.Helper()
	quoted, err := json.Marshal(selector)
	require.NoError(b.t, err)
	return eval[string](b, "document.querySelector("+string(quoted)+")?.innerText ?? ''") // none while it loads again
}

// shows waits until an element contains a text.
func (b *tab) shows(selector, text string) {
	b.t.Helper()
	seen := ""
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s says %q", selector, seen)
		}
	}()
	eventually(b.t, selector+" shows "+text, func() bool {
		seen = b.text(selector)
		return strings.Contains(seen, text)
	})
}

// quiet checks that the browser has not complained, and has asked nobody else.
func (b *tab) quiet(address string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	assert.Empty(b.t, b.complaints)
	assert.NotEmpty(b.t, b.requested)
	for _, url := range b.requested {
		assert.True(b.t, strings.HasPrefix(url, "http://"+address+"/"), url)
	}
}

// media makes the browser prefer something, such as a dark page.
func (b *tab) media(feature, value string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: feature, Value: value}}})
}
