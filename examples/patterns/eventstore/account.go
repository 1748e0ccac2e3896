package eventstore

import "fmt"

// Types of events.
const (
	Deposited = "account.deposited"
	Withdrawn = "account.withdrawn"
	Refused   = "account.refused" // there was not enough to withdraw
)

// Amount is what an event carries.
type Amount struct {
	Cents int64 `json:"cents"`
}

// Account is the state that the events of a stream amount to.
type Account struct {
	Version int64
	Balance int64
}

// apply adds the next event.
func (a *Account) apply(eventType string, by Amount) error {
	a.Version++
	switch eventType {
	case Deposited:
		a.Balance += by.Cents
	case Withdrawn:
		a.Balance -= by.Cents
	case Refused:
	default:
		return fmt.Errorf("unknown event %s at version %d", eventType, a.Version)
	}
	return nil
}

// withdraw decides what comes of the wish to withdraw money.
func (a *Account) withdraw(wish Amount) (eventType string) {
	if wish.Cents > a.Balance {
		return Refused
	}
	return Withdrawn
}
