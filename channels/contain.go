package channels

import "fmt"

// Contain runs one call of a channel and makes an error of its panic, for calls in
// goroutines of our own: there it would end the process, with all other accounts.
func Contain(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the channel panicked: %v", p)
		}
	}()
	return call()
}
