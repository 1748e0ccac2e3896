package browser

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever finds no place among the viewers sees the page all the same, a little
// less often, and gets a place when there is one.
func TestNoPlaceAmongTheViewers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ready(r.address)
	var others []io.Closer
	for range 32 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/page/live", nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		others = append(others, response.Body)
		go func() { _, _ = io.Copy(io.Discard, response.Body) }()
	}
	b := newTab(t, desktop, high)
	b.load(r.address)
	b.shows("#contact", "Updated every 10 seconds")
	assert.False(t, eval[bool](b, "document.body.classList.contains('stale')"))
	r.insert("order", 3)
	b.shows("[data-part=topics]", "shop.order")
	for _, other := range others {
		require.NoError(t, other.Close())
	}
	b.is("live", `document.getElementById('contact').dataset.contact === 'live'`)
}
