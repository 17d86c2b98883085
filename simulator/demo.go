package simulator

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Demo asks for customers who live by themselves: as soon as an account is
// connected (it polls, or has set a webhook), a few people with names begin to
// write to it, answer what they are answered and press buttons.
type Demo struct {
	// Customers for each account; default 4.
	Customers int
	// Pace makes everything faster or slower; default 1, which is as people
	// are: a reply takes 4 to 12 seconds.
	Pace float64
	// PerMinute bounds the messages of all customers together; default 40.
	PerMinute int
}

func (d Demo) withDefaults() Demo {
	if d.Customers == 0 {
		d.Customers = 4
	}
	if d.Pace == 0 {
		d.Pace = 1
	}
	if d.PerMinute == 0 {
		d.PerMinute = 40
	}
	return d
}

type demoLife struct {
	sim *Simulator
	cfg Demo

	mu     sync.Mutex
	people int
	rate   gcra
}

func newDemoLife(s *Simulator, cfg Demo) *demoLife {
	return &demoLife{sim: s, cfg: cfg.withDefaults()}
}

// person is a customer with a story to tell.
type person struct {
	life *demoLife
	c    customer
	ru   bool
	rnd  *rand.Rand

	mu     sync.Mutex
	turn   int // rises with everything that happens, so that older timers do nothing
	story  story
	line   int
	told   int // stories begun
	nudges int
	typing bool // an answer is on its way
	button int  // the bot offered buttons: how many
}

// connected brings the account to life, once. A nil demoLife does nothing.
func (d *demoLife) connected(a account) {
	if d == nil || !a.core().adopted.CompareAndSwap(false, true) {
		return
	}
	d.mu.Lock()
	first := d.people
	d.people += d.cfg.Customers
	d.mu.Unlock()
	for i := range d.cfg.Customers {
		who := cast[(first+i)%len(cast)]
		lang, country := "en", "GB"
		if who.ru {
			lang, country = "ru", "RU"
		}
		c, err := a.addCustomer(CustomerSpec{
			FirstName: who.first, LastName: who.last, Username: who.username, Language: lang, Country: country, Avatar: i%4 != 3,
		})
		if err != nil {
			d.sim.log.Warn("demo customer was not added", "platform", a.core().platform, "err", err)
			continue
		}
		h := fnv.New64a()
		h.Write([]byte(a.core().platform + "/" + a.core().ref)) //nolint:errcheck // never fails
		p := &person{life: d, c: c, ru: who.ru, rnd: rand.New(rand.NewPCG(d.sim.cfg.Seed, h.Sum64()+uint64(i)))}
		p.told = p.rnd.IntN(8)
		hear := p.hear
		c.base().onMessage.Store(&hear)
		// The first one writes soon, so that a new desk is not empty for long.
		p.later(time.Duration(1+i*7+p.rnd.IntN(6))*time.Second, p.begin)
	}
}

// later calls f unless something else has happened to the person by then.
func (p *person) later(d time.Duration, f func()) {
	p.mu.Lock()
	p.turn++
	turn := p.turn
	p.mu.Unlock()
	p.life.sim.after(time.Duration(float64(d)/p.life.cfg.Pace), func() {
		p.mu.Lock()
		current := p.turn == turn
		p.mu.Unlock()
		if current {
			f()
		}
	})
}

func (p *person) between(low, high int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(low*1000+p.rnd.IntN((high-low)*1000)) * time.Millisecond
}

// begin starts the next story.
func (p *person) begin() {
	p.mu.Lock()
	list := storiesEN
	if p.ru {
		list = storiesRU
	}
	p.story = list[p.told%len(list)]
	p.told++
	p.line, p.nudges, p.typing, p.button = 0, 0, false, 0
	p.mu.Unlock()
	p.speak()
}

// speak says the next line and decides what follows.
func (p *person) speak() {
	if wait := p.life.take(); wait > 0 {
		p.later(wait, p.speak)
		return
	}
	p.mu.Lock()
	opening, at := p.story.opening, p.line
	lines := append(append([]string{}, opening...), p.story.turns...)
	if at >= len(lines) {
		p.mu.Unlock()
		p.later(p.between(60, 180), p.begin)
		return
	}
	p.line++
	p.typing = false
	text := lines[at]
	seed := p.rnd.Uint64()
	p.mu.Unlock()

	p.utter(text, seed)
	switch {
	case at+1 < len(opening): // the rest of the opening follows by itself
		p.later(p.between(3, 7), p.speak)
	case at+1 < len(lines):
		p.later(p.between(75, 130), p.nudge)
	default:
		p.later(p.between(90, 240), p.begin)
	}
}

// utter sends a line: "@photo text" and the like share something.
func (p *person) utter(line string, seed uint64) {
	var err error
	if what, ok := strings.CutPrefix(line, "@"); ok {
		kind, caption, _ := strings.Cut(what, " ")
		_, err = p.c.share(kind, caption, seed)
	} else {
		_, err = p.c.say(line, nil)
	}
	if err != nil {
		p.life.sim.log.Warn("demo customer could not write", "err", err)
	}
}

// nudge: nobody answers. Twice, then the person gives up for a while.
func (p *person) nudge() {
	if wait := p.life.take(); wait > 0 {
		p.later(wait, p.nudge)
		return
	}
	p.mu.Lock()
	p.nudges++
	n := p.nudges
	list := nudgesEN
	if p.ru {
		list = nudgesRU
	}
	text := list[p.rnd.IntN(len(list))]
	p.mu.Unlock()
	if n > 2 {
		p.later(p.between(240, 480), p.begin)
		return
	}
	p.utter(text, 0)
	p.later(p.between(120, 240), p.nudge)
}

// hear is called for every message from the bot.
func (p *person) hear(_ string, buttons int) {
	p.mu.Lock()
	if p.story.turns == nil { // written to before the first story: say something at once
		p.mu.Unlock()
		p.later(p.between(3, 8), p.begin)
		return
	}
	if buttons > 0 {
		p.button = buttons
	}
	busy := p.typing
	p.typing = true
	p.mu.Unlock()
	if busy {
		return // the answer on its way is for both
	}
	p.later(p.between(4, 12), p.answer)
}

func (p *person) answer() {
	p.mu.Lock()
	n := p.button
	p.button = 0
	press := n > 0 && p.rnd.IntN(10) < 8
	pick := 0
	if press {
		pick = p.rnd.IntN(n)
	}
	p.mu.Unlock()
	if press {
		if wait := p.life.take(); wait > 0 {
			p.mu.Lock()
			p.button = n
			p.mu.Unlock()
			p.later(wait, p.answer)
			return
		}
		if _, err := p.c.press(pick); err == nil {
			p.mu.Lock()
			p.typing = false
			p.mu.Unlock()
			p.later(p.between(75, 130), p.nudge)
			return
		}
	}
	p.speak()
}

// take reserves one message of the common rate.
func (d *demoLife) take() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rate.take(time.Now(), 1, float64(d.cfg.PerMinute)/60*d.cfg.Pace, 5)
}

type story struct {
	opening []string // said one after another
	turns   []string // each after an answer
}

var cast = []struct {
	first, last, username string
	ru                    bool
}{
	{"Анна", "Котова", "akotova", true},
	{"Emily", "Carter", "emcarter", false},
	{"Пётр", "Смирнов", "psmirnov", true},
	{"Марина", "Лебедева", "", true},
	{"James", "O'Brien", "jobrien", false},
	{"Тимур", "Гарипов", "timgar", true},
	{"Olivia", "Novak", "", false},
	{"Ольга", "Ветрова", "ovetrova", true},
	{"Daniel", "Schmidt", "dschmidt", false},
	{"Сергей", "Ким", "", true},
	{"Екатерина", "Волкова", "katevolk", true},
	{"Priya", "Nair", "priyan", false},
}

var nudgesRU = []string{"Алло, есть кто-нибудь?", "Вы тут?", "Жду ответа 🙂", "Подскажите, пожалуйста, когда ответите?"}

var nudgesEN = []string{"Hello, is anyone there?", "Still waiting…", "Any news?", "Hi, did you see my message?"}

var storiesRU = []story{
	{
		[]string{"Здравствуйте!", "Где мой заказ №4817? Обещали вчера"},
		[]string{"4817, оформляла на Котову, доставка курьером", "@photo Вот подтверждение из письма", "А сегодня точно привезут? Я дома до шести", "@location", "Поняла, спасибо большое! 🙏"},
	},
	{
		[]string{"Добрый день. Пришёл чайник, а он не включается"},
		[]string{"Подставка рабочая, проверял с другим", "@photo Вот так выглядит шнур, там надлом", "Лучше обмен, чем возврат денег", "@document", "Курьер завтра после обеда устроит", "Отлично, договорились"},
	},
	{
		[]string{"Подскажите, можно поменять адрес доставки?", "Заказ ещё не отправлен вроде"},
		[]string{"Номер 5120", "Новый адрес: Лесная, 7, кв. 12, домофон 12", "@location", "Доплата будет?", "Супер, быстро вы 👍", "@sticker"},
	},
	{
		[]string{"@voice", "Записала голосом, потому что за рулём"},
		[]string{"Да, про абонемент. Хочу заморозить на две недели", "С понедельника", "А деньги за эти дни не сгорают?", "Хорошо, тогда морозьте", "Спасибо!"},
	},
	{
		[]string{"Здравствуйте, списали деньги дважды за один заказ"},
		[]string{"Карта заканчивается на 4410", "@photo Скрин из банка", "Сегодня, около 12:30, с разницей в минуту", "И сколько ждать возврата?", "Ладно, подожду. Если за три дня не придёт, напишу", "Спасибо за помощь"},
	},
	{
		[]string{"Есть ли у вас кроссовки из рекламы в 43 размере?"},
		[]string{"@photo Вот эти", "Белые или серые, без разницы", "А примерить можно в магазине?", "@contact", "Подойду в субботу, отложите, пожалуйста"},
	},
	{
		[]string{"Не могу войти в личный кабинет, код не приходит"},
		[]string{"Телефон тот же, что при регистрации", "Пробовала три раза, пишет «слишком много попыток»", "О, пришёл! Сейчас введу", "Вошла. Спасибо, вы лучшие", "@sticker"},
	},
	{
		[]string{"Добрый вечер! Вы работаете в воскресенье?", "И принимаете ли карты?"},
		[]string{"А парковка рядом есть?", "Хорошо, приедем вчетвером к двум", "На имя Ольга", "До встречи!"},
	},
}

var storiesEN = []story{
	{
		[]string{"Hi there", "My parcel says delivered but I don't have it"},
		[]string{"Order 77120, it was due today", "@photo This is my porch, nothing here", "I've asked both neighbours already", "@location", "OK, let me know what the courier says", "Thanks for looking into it!"},
	},
	{
		[]string{"Hello! I'd like to return a jacket, it's too small"},
		[]string{"Order 6615, bought last Tuesday", "Tags are still on", "@photo Like new, as you can see", "Refund to the same card please", "Great, that was easy"},
	},
	{
		[]string{"Good morning, could you send me the invoice for October?"},
		[]string{"Company name is Carter Design Ltd", "@document", "That's last month's one, same details", "Got it, thank you"},
	},
	{
		[]string{"Is the 20% discount still on?", "The code SAVE20 says expired"},
		[]string{"Just tried again, same thing", "@photo", "It's for the standing desk, oak top", "Perfect, it went through now", "@sticker"},
	},
	{
		[]string{"@voice", "Sorry, walking the dog, easier to talk 🙂"},
		[]string{"Yes, about the booking for Friday", "Can we move it to 7:30?", "Five people, one high chair", "Lovely, see you then"},
	},
	{
		[]string{"The app crashes every time I open my cart"},
		[]string{"Android 14, version 5.2", "@photo It just shows this", "Reinstalled it twice, no luck", "OK clearing the cache did it", "Cheers, appreciate the quick help"},
	},
}
