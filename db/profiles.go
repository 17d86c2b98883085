package db

import (
	"context"
	"fmt"

	"switchboard/message"
)

// SaveProfile stores what a platform told about a customer of the account, and
// tells the operators of the customer's chats. Empty fields change nothing, and
// an unknown customer is no error.
func (d *DB) SaveProfile(ctx context.Context, accountID string, p message.Profile) error {
	_, err := d.pool.Exec(ctx, `with changed as (update customers set
				name = coalesce(nullif($3, ''), name), username = coalesce(nullif($4, ''), username), avatar = coalesce(nullif($5, ''), avatar),
				language = coalesce(nullif($6, ''), language), country = coalesce(nullif($7, ''), country)
			where account_id = $1 and external_id = $2 and ($3 not in ('', name) or $4 not in ('', username) or $5 not in ('', avatar)
				or $6 not in ('', language) or $7 not in ('', country))
			returning id)
		insert into events (type, chat_id, operator_id, everyone)
			select 'chat.updated', c.id, c.operator_id, c.state in ('new', 'offered') from chats c join changed on c.customer_id = changed.id where c.state <> 'closed'`,
		accountID, keyText(p.ID), plainText(p.Name), plainText(p.Username), plainText(p.Avatar), keyText(p.Language), keyText(p.Country))
	if err != nil {
		return fmt.Errorf("saving customer's profile: %w", err)
	}
	return nil
}
