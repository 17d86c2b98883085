// Package all is the list of platforms. A new messenger is a folder beside this
// one and a line here.
package all

import (
	"switchboard/channels"
	"switchboard/channels/infobip"
	"switchboard/channels/mfms"
	"switchboard/channels/ok"
	"switchboard/channels/telegram"
	"switchboard/channels/viber"
	"switchboard/channels/vk"
)

// Platforms are the messengers that accounts can be made for.
var Platforms = []channels.Platform{
	infobip.Platform(),
	mfms.Platform(),
	ok.Platform(),
	telegram.Platform(),
	viber.Platform(),
	vk.Platform(),
}
