package queue

// The kinds of a recipient's address, as the database has them.
const (
	ByCustomer   = 0 // a customer's id
	ByExternalID = 1 // the platform's id
	ByPhone      = 2 // E.164 with plus
)

// Recipient is one line of an import.
type Recipient struct {
	Kind     int16
	Address  []byte
	Timezone []byte // empty: the campaign's
	Vars     []byte // a JSON object of texts; empty for none
}

// Recipients is a piece of an import.
type Recipients struct {
	List       []Recipient
	Rejected   int64 // rows that were left out, since the last piece
	Duplicates int64
}

// Once makes an action of a script happen once.
type Once struct {
	Scope   string // who: a principal's name
	Key     string // their own; "" asks for nothing
	Request []byte // a hash of what was asked
}
