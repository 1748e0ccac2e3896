package browser

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	desktop, phone = 1280, 360
	high           = 900
)

// full is a rig in which the page has something to say everywhere: events, a
// dead letter with a hostile name, and a standby.
func full(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.ready(r.address)
	r.ready(address(t))
	r.insert("order", 100)
	r.insert(hostile, 1)
	return r
}

// watched is a rig with a streamer, and a page that is live.
func watched(t *testing.T) (*rig, *process, *tab) {
	t.Helper()
	r := newRig(t)
	p := r.ready(r.address)
	b := newTab(t, desktop, high)
	b.open(r.address)
	return r, p, b
}

// hostile is an aggregate type of which the log, and so the page, speaks.
const hostile = `<script>hacked=1</script><img data-hostile src=x onerror="hacked=1">`

// said waits until the page says everything that it has to say.
func (b *tab) said() {
	b.t.Helper()
	b.shows("[data-part=topics]", "shop.order")
	b.shows("[data-part=state]", "1 row could not be published")
	b.shows("[data-part=instances]", "stands by")
	b.shows("[data-part=warnings]", "hacked")
	b.is("drawn", `document.querySelectorAll('svg[role=img]').length === 3`)
}

// The page loads, is live, and the browser has nothing to complain about:
// nothing on the console, no violation of the policy, nobody else is asked.
func TestPageIsLive(t *testing.T) {
	t.Parallel()
	r, _, b := watched(t)
	b.shows("[data-part=state]", "Streaming, keeps up")
	b.shows("[data-part=delivery]", "exactly once")
	r.insert("order", 100)
	b.shows("[data-part=topics]", "shop.order")
	b.is("counting", `document.querySelector('[data-part=topics] td').innerText === '100'`)
	assert.Equal(t, r.slot, b.text("h1 .slot"))
	assert.Contains(t, eval[string](b, "document.title"), "All is well · "+r.slot)
	b.quiet(r.address)
}

// What an enemy writes into the database is shown, as text. Payloads and keys
// are not.
func TestHostileRow(t *testing.T) {
	t.Parallel()
	r := full(t)
	b := newTab(t, desktop, high)
	b.open(r.address)
	b.said()
	assert.Contains(t, b.text("[data-part=warnings]"), "hacked=1", "it is shown")
	assert.False(t, eval[bool](b, `'hacked' in window || document.querySelector('[data-hostile]') !== null`))
	assert.NotContains(t, eval[string](b, "document.documentElement.outerHTML"), "c4n4ry")
	b.quiet(r.address)
}

// An automated check finds nothing to improve for people who see little, use no
// mouse, or listen: in light and dark, on a desk and on a phone.
func TestAxe(t *testing.T) {
	t.Parallel()
	r := full(t)
	source := axe(t)
	for _, width := range []int64{desktop, phone} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(fmt.Sprintf("%s on %d", scheme, width), func(t *testing.T) {
				b := newTab(t, width, high)
				b.media("prefers-color-scheme", scheme)
				b.open(r.address)
				b.said()
				b.run(chromedp.Evaluate[chromedp.Void](source))
				const found = `axe.run().then(r => r.violations.concat(r.incomplete.filter(i => i.id === 'color-contrast'))
					.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.target + ' ' + n.failureSummary).join('; ')))`
				assert.Empty(t, eval[[]string](b, found))
				passed := eval[int](b, `axe.run().then(r => r.passes.length)`)
				assert.Greater(t, passed, 20, "it has looked")
				ground := eval[string](b, "getComputedStyle(document.body).backgroundColor")
				assert.Equal(t, map[string]string{"light": "rgb(244, 245, 247)", "dark": "rgb(16, 19, 25)"}[scheme], ground)
			})
		}
	}
}

// A screen reader finds landmarks, headings in their order, and a name for
// everything.
func TestAccessibilityTree(t *testing.T) {
	t.Parallel()
	r := full(t)
	b := newTab(t, desktop, high)
	b.open(r.address)
	b.said()
	roles := map[string]int{}
	for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role, name := spoken(t, node.Role), spoken(t, node.Name)
		roles[role]++
		switch role {
		case "RootWebArea", "link", "button", "heading", "image", "img", "region", "navigation", "table", "columnheader", "rowheader",
			"progressbar":
			assert.NotEmpty(t, name, "%s without a name", role)
		}
	}
	for role, least := range map[string]int{
		"main": 1, "banner": 1, "contentinfo": 1, "navigation": 1, "region": 8, "heading": 9, "table": 2, "columnheader": 6,
		"rowheader": 2, "link": 4,
	} {
		assert.GreaterOrEqual(t, roles[role], least, role)
	}
	assert.Equal(t, 3, roles["image"]+roles["img"], roles)
	levels := eval[[]string](b, `[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName)`)
	assert.Equal(t, "H1 H2 H2 H2 H2 H2 H2 H2 H2 H2", strings.Join(levels, " "))
}

func spoken(t *testing.T, v *accessibility.Value) (text string) {
	t.Helper()
	if v != nil && len(v.Value) > 0 {
		require.NoError(t, json.Unmarshal(v.Value, &text))
	}
	return text
}

// The keyboard reaches everything there is to reach, in the order of the page,
// visibly, and the updates do not take the focus away.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	r, _, b := watched(t)
	var order []string
	for range 4 {
		b.run(chromedp.KeyEvent(kb.Tab))
		order = append(order, eval[string](b, "document.activeElement.innerText"))
		assert.Equal(t, "solid", eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"), order)
		assert.True(t, eval[bool](b, "document.activeElement.getBoundingClientRect().top >= 0"), order)
	}
	assert.Equal(t, []string{"Skip to the state", "metrics", "ready?", "alive?"}, order)
	b.beats(3)
	assert.Equal(t, "alive?", eval[string](b, "document.activeElement.innerText"))
	b.run(chromedp.Evaluate[chromedp.Void]("document.querySelector('.skip').focus()"), chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "main", eval[string](b, "document.activeElement.id"))
	b.quiet(r.address)
}

// beats waits for some updates.
func (b *tab) beats(n int) {
	b.t.Helper()
	for range n {
		before := eval[string](b, "document.getElementById('at').dateTime")
		b.is("updated", "document.getElementById('at').dateTime !== '"+before+"'")
	}
}

// Selected text stays while everything else goes on.
func TestSelectionStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ready(r.address)
	r.insert("order", 1)
	b := newTab(t, desktop, high)
	b.open(r.address)
	b.shows("[data-part=topics]", "shop.order")
	b.run(chromedp.Evaluate[chromedp.Void]("getSelection().selectAllChildren(document.querySelector('[data-part=topics] tbody th'))"))
	r.insert("order", 10)
	b.beats(4)
	assert.Equal(t, "shop.order", eval[string](b, "getSelection().toString()"))
	b.run(chromedp.Evaluate[chromedp.Void]("getSelection().removeAllRanges()"))
	b.is("up to date", `document.querySelector('[data-part=topics] td').innerText === '11'`)
}

// On a phone nothing has to be scrolled sideways, whatever the names are.
func TestPhone(t *testing.T) {
	t.Parallel()
	r := full(t)
	r.insert(strings.Repeat("long", 50), 1)
	for _, width := range []int64{phone, 320} {
		b := newTab(t, width, 740)
		b.open(r.address)
		b.said()
		b.shows("[data-part=topics]", "longlong")
		assert.LessOrEqual(t, eval[int](b, "document.documentElement.scrollWidth"), int(width))
		const wide = `[...document.querySelectorAll('main *')]
			.filter(e => !e.closest('svg') && e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)`
		assert.Empty(t, eval[[]string](b, wide))
	}
}

// Without scripts the page shows the same, and loads itself again.
func TestWithoutScripts(t *testing.T) {
	t.Parallel()
	r := full(t)
	live := newTab(t, desktop, high)
	live.open(r.address)
	live.said()
	b := newTab(t, desktop, high)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.load(r.address)
	b.said()
	assert.Equal(t, "As of", b.text("#contact-text"))
	r.insert("later", 1)
	b.shows("[data-part=topics]", "shop.later")
	b.quiet(r.address)
}

// A page that prefers less motion moves nothing.
func TestReducedMotion(t *testing.T) {
	t.Parallel()
	_, _, b := watched(t)
	b.run(chromedp.Evaluate[chromedp.Void]("document.body.classList.add('stale')"))
	duration := "getComputedStyle(document.querySelector('main')).transitionDuration"
	b.media("prefers-reduced-motion", "reduce")
	assert.Equal(t, "0s", eval[string](b, duration))
	b.media("prefers-reduced-motion", "no-preference")
	assert.NotEqual(t, "0s", eval[string](b, duration))
}
