package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// ProfileDue reports whether the platform's last word on a customer is older than
// age; false for an unknown customer.
func (d *DB) ProfileDue(ctx context.Context, accountID, customer string, age time.Duration) (due bool, err error) {
	err = d.pool.QueryRow(ctx, `select profile_at < now() - $3::interval from customers where account_id = $1 and external_id = $2`,
		accountID, keyText(customer), age).Scan(&due)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading customer's profile: %w", err)
	}
	return due, nil
}

// Lanes write customers' rows too, so nobody here holds one for longer than it
// takes to commit: what has to be looked at is read before, without a lock, and the
// row is changed last.

const (
	// pictureBacklog is how many jobs about pictures may wait; what comes beyond it
	// is passed over.
	pictureBacklog = 200
	// longestRef is the longest address of a picture that is taken, in bytes.
	longestRef = 4096
)

// eventsOfCustomer tells the operators of the customer's chats; $1 is the customer's id.
const eventsOfCustomer = `insert into events (type, chat_id, operator_id, everyone)
	select 'chat.updated', id, operator_id, state in ('new', 'offered') from chats where state <> 'closed' and customer_id = $1`

// SaveProfile stores what a platform told about a customer of the account when it
// was asked, and tells the operators of the customer's chats. Empty fields change
// nothing, except that no Avatar means that there is no picture: ours is removed.
// A picture other than the one we have becomes a job, unless too many wait
// (passed). An unknown customer is no error.
func (d *DB) SaveProfile(ctx context.Context, accountID string, p message.Profile) (passed bool, err error) {
	c, err := d.pictured(ctx, accountID, p.ID)
	if errors.Is(err, switchboard.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	drop := p.Avatar == "" && c.FileID != ""
	err = d.tx(ctx, func(tx pgx.Tx) error {
		if drop {
			err = d.jobs.insert(ctx, tx, queue.RemoveArgs{FileID: c.FileID})
		} else {
			passed, err = d.queuePicture(ctx, tx, c, accountID, p)
		}
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`with changed as (update customers set
					name = coalesce(nullif($2, ''), name), username = coalesce(nullif($3, ''), username),
					language = coalesce(nullif($4, ''), language), country = coalesce(nullif($5, ''), country),
					avatar_ref = case when $6 and avatar_file = $7 then '' else avatar_ref end, avatar_file = case when $6 and avatar_file = $7 then null else avatar_file end
				where id = $1 and ($2 not in ('', name) or $3 not in ('', username) or $4 not in ('', language) or $5 not in ('', country) or ($6 and avatar_file = $7))
				returning id)
			`+eventsOfCustomer+` and exists (select from changed)`,
			c.id, plainText(p.Name), plainText(p.Username), keyText(p.Language), keyText(p.Country), drop, textOrNil(c.FileID))
		queueSettled(batch, c, !passed)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return false, fmt.Errorf("saving customer's profile: %w", err)
	}
	return passed, nil
}

// NotePicture takes the picture that an update told: p.ID, p.Avatar and
// p.AvatarKey. See SaveProfile.
func (d *DB) NotePicture(ctx context.Context, accountID string, p message.Profile) (passed bool, err error) {
	c, err := d.pictured(ctx, accountID, p.ID)
	if errors.Is(err, switchboard.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = d.tx(ctx, func(tx pgx.Tx) error {
		if passed, err = d.queuePicture(ctx, tx, c, accountID, p); err != nil || passed {
			return err
		}
		batch := &pgx.Batch{}
		queueSettled(batch, c, true)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return false, fmt.Errorf("noting customer's picture: %w", err)
	}
	return passed, nil
}

// queueSettled notes the time and forgets the former picture, if it is one.
func queueSettled(batch *pgx.Batch, c pictured, settled bool) {
	if settled {
		batch.Queue(`update customers set profile_at = now() where id = $1`, c.id)
	}
	if c.FileID != "" {
		batch.Queue(`delete from files where id = $1 and not exists (select from customers where id = $2 and avatar_file = $1)`, c.FileID, c.id)
	}
}

// queuePicture makes a job of a picture that is not the customer's already.
func (d *DB) queuePicture(ctx context.Context, tx pgx.Tx, c pictured, accountID string, p message.Profile) (passed bool, err error) {
	key := keyText(cmp.Or(p.AvatarKey, p.Avatar))
	if p.Avatar == "" || len(p.Avatar) > longestRef || (key == c.Key && c.FileID != "") {
		return false, nil
	}
	var waiting int
	err = tx.QueryRow(ctx, `select count(*) from (select from river_job
		where state in ('available', 'retryable', 'running', 'scheduled') and queue = $1 limit $2) q`, queue.PictureQueue, pictureBacklog).Scan(&waiting)
	if err != nil || waiting >= pictureBacklog {
		return true, err
	}
	return false, d.jobs.insert(ctx, tx, queue.PictureArgs{AccountID: accountID, Customer: keyText(p.ID), Ref: plainText(p.Avatar), Key: key, FileID: NewID()})
}

// pictured is a customer with what we have of the picture.
type pictured struct {
	id string
	queue.Picture
}

func (d *DB) pictured(ctx context.Context, accountID, customer string) (c pictured, err error) {
	err = d.pool.QueryRow(ctx, `select c.id, c.avatar_ref, coalesce(c.avatar_file::text, ''), coalesce(f.sha256, '') from customers c left join files f on f.id = c.avatar_file
		where c.account_id = $1 and c.external_id = $2`, accountID, keyText(customer)).Scan(&c.id, &c.Key, &c.FileID, &c.SHA256)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, fmt.Errorf("customer: %w", switchboard.ErrNotFound)
	}
	if err != nil {
		return c, fmt.Errorf("reading customer's picture: %w", err)
	}
	return c, nil
}

// Picture is what we have of a customer's picture, or ErrNotFound when there is no
// such customer.
func (d *DB) Picture(ctx context.Context, accountID, customer string) (queue.Picture, error) {
	c, err := d.pictured(ctx, accountID, customer)
	return c.Picture, err
}

// errOvertaken says that the customer got another picture meanwhile.
var errOvertaken = errors.New("the picture was changed by somebody else")

// FinishPicture makes f, whose bytes are in the store, the customer's picture, and
// tells the operators. The former picture's row goes, and its bytes by a job. An
// empty f.ID says that the picture under the new key is the one we have. The same
// again changes nothing. The error is ErrNotFound when there is no such customer.
func (d *DB) FinishPicture(ctx context.Context, accountID, customer, key string, f queue.StoredFile) error {
	c, err := d.pictured(ctx, accountID, customer)
	if err != nil {
		return err
	}
	if f.ID == "" || f.ID == c.FileID {
		if _, err := d.pool.Exec(ctx, `update customers set avatar_ref = $2 where id = $1`, c.id, key); err != nil {
			return fmt.Errorf("recording customer's picture: %w", err)
		}
		return nil
	}
	err = d.tx(ctx, func(tx pgx.Tx) error {
		if c.FileID != "" {
			if err := d.jobs.insert(ctx, tx, queue.RemoveArgs{FileID: c.FileID}); err != nil {
				return err
			}
		}
		taken := false
		batch := &pgx.Batch{}
		batch.Queue(`insert into files (id, name, mime, size, sha256, kind, state, owner, account_id) values ($1, $2, $3, $4, $5, $6, 'ready', $7, $8)`,
			f.ID, plainText(f.Name), f.Mime, f.Size, f.SHA256, f.Kind, queue.PictureOwner, accountID)
		batch.Queue(`update customers set avatar_ref = $2, avatar_file = $3 where id = $1 and avatar_file is not distinct from $4`,
			c.id, key, f.ID, textOrNil(c.FileID)).Exec(func(tag pgconn.CommandTag) error {
			taken = tag.RowsAffected() > 0
			return nil
		})
		queueSettled(batch, c, false)
		batch.Queue(eventsOfCustomer, c.id)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if !taken {
			return errOvertaken
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording customer's picture: %w", err)
	}
	return nil
}
