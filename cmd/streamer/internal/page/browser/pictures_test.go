package browser

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outboxstream/streamer/internal/pgtest"
)

var (
	pictures = flag.String("pictures", "", "folder in which to write the pictures of docs/img")
	sceneFor = flag.Duration("scene", 225*time.Second, "how long the shop of the pictures is at work")
)

// TestPictures draws the pictures in docs/img: a shop at work, a standby, a row
// that cannot be published, and at last a Kafka that does not answer.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("draws pictures only with -args -pictures FOLDER")
	}
	server := pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_slot_wal_keep_size": "512MB", "checkpoint_timeout": "30s"}})
	r := newRigOn(t, server)
	r.slot = "shop"
	r.exec("select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	r.ready(r.address)
	r.ready(address(t))
	ctx, stop := context.WithCancel(t.Context())
	var selling sync.WaitGroup
	defer selling.Wait()
	defer stop()
	selling.Go(func() { r.sell(ctx) })
	pass(t, *sceneFor*3/4)
	r.insert("no/topic", 1)
	r.away(15 * time.Second)
	pass(t, *sceneFor/4)

	desk := newTab(t, 1180, 1000)
	desk.media("prefers-color-scheme", "light")
	desk.open(r.address)
	pass(t, 8*time.Second)
	desk.picture("page-light.png", 0)

	r.away(time.Hour)
	pass(t, 50*time.Second)
	night := newTab(t, 430, 932)
	night.media("prefers-color-scheme", "dark")
	night.open(r.address)
	pass(t, 2*time.Second)
	night.picture("page-dark.png", 932)
}

func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// sell writes what a shop writes: more and less, in waves.
func (r *rig) sell(ctx context.Context) {
	db := r.open()
	for n := 0; ctx.Err() == nil; n++ {
		rows := int(30 * (1.4 + math.Sin(float64(n)/70) + .4*math.Sin(float64(n)/9)))
		for name, part := range map[string]int{"order": 10, "payment": 6, "shipment": 4} {
			_, err := db.Exec(ctx, `insert into outbox (aggregatetype, aggregateid, type, payload)
				select $1, 'o' || n % 10, 't', jsonb_build_object('note', repeat(md5(n::text), 10)) from generate_series(1, $2) n`, name, rows*part/10)
			if ctx.Err() != nil {
				return
			}
			assert.NoError(r.t, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// away makes Kafka refuse all records for a while.
func (r *rig) away(d time.Duration) {
	fault := r.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	time.AfterFunc(d, fault.Remove)
}

// picture writes what the tab shows: all of it, or the upper part.
func (b *tab) picture(name string, height int64) {
	b.t.Helper()
	const scale = 1.4
	width := int64(eval[float64](b, "innerWidth"))
	if height == 0 {
		height = int64(eval[float64](b, "document.documentElement.scrollHeight"))
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: scale,
	})
	pass(b.t, 2*time.Second)
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	file, err := os.Create(filepath.Join(*pictures, name))
	require.NoError(b.t, err)
	require.NoError(b.t, errors.Join(shrink(file, shot), file.Close()))
}

// shrink writes a picture with the 256 colours that it has most of.
func shrink(to io.Writer, shot []byte) error {
	full, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return err
	}
	counts := map[color.RGBA]int{}
	for y := range full.Bounds().Dy() {
		for x := range full.Bounds().Dx() {
			counts[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int { return counts[b] - counts[a] })
	var palette color.Palette
	for _, c := range colours { // of similar ones, the one that there is most of
		if len(palette) < 256 && !slices.ContainsFunc(palette, func(has color.Color) bool { return near(has.(color.RGBA), c) }) {
			palette = append(palette, c)
		}
	}
	small, nearest := image.NewPaletted(full.Bounds(), palette), map[color.RGBA]uint8{}
	for y := range full.Bounds().Dy() {
		for x := range full.Bounds().Dx() {
			c := color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)
			if _, known := nearest[c]; !known {
				nearest[c] = uint8(palette.Index(c))
			}
			small.SetColorIndex(x, y, nearest[c])
		}
	}
	return (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(to, small)
}

// near reports whether nobody could tell two colours apart.
func near(a, b color.RGBA) bool {
	const step = 3
	distance := func(x, y uint8) int { return max(int(x), int(y)) - min(int(x), int(y)) }
	return distance(a.R, b.R) <= step && distance(a.G, b.G) <= step && distance(a.B, b.B) <= step
}
