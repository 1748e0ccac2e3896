package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A streamer that is killed is missed at once, the page says from when it is,
// and it goes on by itself when the streamer is back.
func TestLostContact(t *testing.T) {
	t.Parallel()
	r, p, b := watched(t)
	p.Kill()
	b.shows("#contact", "Contact lost. Trying again. What you see is from")
	b.shows("#announcer", "Contact lost")
	assert.True(t, eval[bool](b, "document.body.classList.contains('stale')"))
	assert.Contains(t, b.text("[data-part=state]"), "Streaming", "what was known stays")
	r.ready(r.address)
	b.is("live again", `document.getElementById('contact').dataset.contact === 'live'`)
	assert.False(t, eval[bool](b, "document.body.classList.contains('stale')"))
	b.shows("#announcer", "Contact is back. ")
}

// A streamer that stops says goodbye, and is back after its start.
func TestStoppedStreamer(t *testing.T) {
	t.Parallel()
	r, p, b := watched(t)
	p.stop(t)
	b.shows("#contact", "The streamer has stopped. What you see is from")
	r.ready(r.address)
	b.is("live again", `document.getElementById('contact').dataset.contact === 'live'`)
	r.insert("order", 7)
	b.shows("[data-part=topics]", "shop.order")
}

// A standby serves the page too. It says for whom it waits, and what happens
// when it takes over is announced. Nothing else is.
func TestStandby(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	works := r.ready(r.address)
	second := address(t)
	r.ready(second)
	b := newTab(t, desktop, high)
	b.open(second)
	b.shows("[data-part=state]", "Standing by")
	b.shows("[data-part=state]", "another instance holds the lock of slot "+r.slot)
	b.shows("[data-part=instances]", "works")
	b.shows("[data-part=instances]", "a streamer, process")
	assert.Contains(t, b.text("[data-part=state]"), "All is well")
	first := newTab(t, desktop, high)
	first.open(r.address)
	first.shows("[data-part=instances]", "stands by")

	b.run(chromedp.Evaluate[chromedp.Void](`window.announced = [];
		new MutationObserver(() => announced.push(document.getElementById('announcer').textContent))
			.observe(document.getElementById('announcer'), {childList: true})`))
	b.beats(5)
	assert.Empty(t, eval[[]string](b, "announced"), "nothing has changed that matters")
	works.Kill()
	b.shows("[data-part=state]", "Streaming, keeps up")
	announced := eval[[]string](b, "announced")
	require.NotEmpty(t, announced)
	assert.Equal(t, "Streaming. All is well.", announced[len(announced)-1])
	b.quiet(second)
}
