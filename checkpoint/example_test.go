package checkpoint_test

import (
	"fmt"

	"github.com/outboxstream/streamer/checkpoint"
)

// Two transactions, whose events go to two partitions. The broker of the first
// partition is slow, so nothing may be confirmed when the second has answered.
func ExampleTracker() {
	tracker := checkpoint.NewTracker(0x100)

	orders := tracker.Open() // a batch for one partition
	tracker.Add()
	tracker.Mark(0x200) // the first transaction ends

	payments := tracker.Open() // a batch for another
	tracker.Add()
	tracker.Add()
	tracker.Mark(0x300)

	tracker.Finish(payments)
	fmt.Println("payments acknowledged:", tracker.Confirmed())
	tracker.Finish(orders)
	fmt.Println("orders acknowledged:", tracker.Confirmed())
	// Output:
	// payments acknowledged: 0/100
	// orders acknowledged: 0/300
}
