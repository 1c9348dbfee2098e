-- Orders for all carts, one look at the stock, two registrations: one transaction creates them all.
-- psql -v run=NAME gives the run a name to look it up by. The order for cart 1004 is to be rejected.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?run}
\else
  \set run by-hand
\endif

BEGIN;

SELECT tasker.create_task('ecommerce', 'order_processing',
  pg_catalog.jsonb_build_object('cart_id', c.cart_id, 'user_id', c.customer_id), tags => '{example}', correlation_id => :'run') AS task_id
FROM shop.carts AS c
ORDER BY c.cart_id;

SELECT tasker.create_task('inventory', 'stock_management', '{"threshold": 10}', tags => '{example}', correlation_id => :'run') AS task_id;

SELECT tasker.create_task('customer', 'user_onboarding', r.registration, tags => '{example}', correlation_id => :'run') AS task_id
FROM (VALUES
  (jsonb '{"username": "amara", "email": "Amara@example.com", "language": "fr", "newsletter": true}'),
  (jsonb '{"username": "li_wei", "email": "li.wei@example.com"}')
) AS r (registration);

COMMIT;
