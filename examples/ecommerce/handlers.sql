-- What the steps of the three shop workflows do.
--
-- A rejection that no retry can mend is raised with tasker.raise_permanent, or as SQLSTATE TK002: the step is not
-- tried again, and the message is what the caller reads in tasker.task_status.

\set ON_ERROR_STOP on
\set QUIET on

-- ecommerce/order_processing

CREATE OR REPLACE FUNCTION shop.validate_cart(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  cart shop.carts;
  items jsonb;
BEGIN
  SELECT c.* INTO cart FROM shop.carts AS c WHERE c.cart_id = (context ->> 'cart_id')::integer;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no cart %', context ->> 'cart_id' USING ERRCODE = 'TK002';
  ELSIF cart.customer_id <> (context ->> 'user_id')::integer THEN
    RAISE EXCEPTION 'cart % belongs to another customer', cart.cart_id USING ERRCODE = 'TK002';
  ELSIF cart.ordered THEN
    RAISE EXCEPTION 'cart % has been ordered already', cart.cart_id USING ERRCODE = 'TK002';
  END IF;

  SELECT jsonb_agg(jsonb_build_object('sku', i.sku, 'quantity', i.quantity, 'unit_price', p.price) ORDER BY i.sku) INTO items
  FROM shop.cart_items AS i JOIN shop.products AS p ON p.sku = i.sku
  WHERE i.cart_id = cart.cart_id;
  IF items IS NULL THEN
    RAISE EXCEPTION 'cart % is empty', cart.cart_id USING ERRCODE = 'TK002';
  END IF;
  RETURN jsonb_build_object('cart_id', cart.cart_id, 'customer_id', cart.customer_id, 'items', items);
END
$$;
COMMENT ON FUNCTION shop.validate_cart(jsonb, jsonb) IS 'Step: the cart exists, is open, belongs to the customer and holds something';

CREATE OR REPLACE FUNCTION shop.check_inventory(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  shortages jsonb;
  description text;
BEGIN
  SELECT jsonb_agg(jsonb_build_object('sku', i.sku, 'wanted', i.quantity, 'on_hand', s.on_hand) ORDER BY i.sku),
    string_agg(format('%s (%s wanted, %s on hand)', p.name, i.quantity, s.on_hand), ', ' ORDER BY i.sku)
  INTO shortages, description
  FROM jsonb_to_recordset(results #> '{validate_cart,items}') AS i (sku text, quantity integer)
  JOIN shop.stock AS s ON s.sku = i.sku
  JOIN shop.products AS p ON p.sku = i.sku
  WHERE s.on_hand < i.quantity;

  IF shortages IS NOT NULL THEN
    RETURN tasker.raise_permanent('out of stock: ' || description, reason => 'out_of_stock', context => jsonb_build_object('shortages', shortages));
  END IF;
  RETURN jsonb_build_object('available', true);
END
$$;
COMMENT ON FUNCTION shop.check_inventory(jsonb, jsonb) IS 'Step: everything in the cart is on hand, or the order is rejected with what is not';

CREATE OR REPLACE FUNCTION shop.calculate_pricing(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- 10 % off lines of ten or more, 5 % off the rest for gold customers; shipping is free from 50; tax is 8 %.
  WITH line AS (
    SELECT i.quantity * i.unit_price AS amount, CASE WHEN i.quantity >= 10 THEN 0.10 WHEN c.tier = 'gold' THEN 0.05 ELSE 0 END AS rebate
    FROM jsonb_to_recordset(results #> '{validate_cart,items}') AS i (quantity integer, unit_price numeric)
    CROSS JOIN shop.customers AS c
    WHERE c.customer_id = (results #>> '{validate_cart,customer_id}')::integer
  ), goods AS (
    SELECT sum(l.amount) AS subtotal, round(sum(l.amount * l.rebate), 2) AS discount FROM line AS l
  ), shipped AS (
    SELECT g.*, CASE WHEN g.subtotal - g.discount >= 50 THEN 0 ELSE 5.90 END AS shipping FROM goods AS g
  ), taxed AS (
    SELECT s.*, round((s.subtotal - s.discount + s.shipping) * 0.08, 2) AS tax FROM shipped AS s
  )
  SELECT jsonb_build_object('subtotal', t.subtotal, 'discount', t.discount, 'shipping', t.shipping, 'tax', t.tax,
    'total', t.subtotal - t.discount + t.shipping + t.tax)
  FROM taxed AS t
$$;
COMMENT ON FUNCTION shop.calculate_pricing(jsonb, jsonb) IS 'Step: rebates, shipping and tax';

CREATE OR REPLACE FUNCTION shop.create_order(step tasker.step_call)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  cart CONSTANT jsonb := step.results -> 'validate_cart';
  price CONSTANT jsonb := step.results -> 'calculate_pricing';
  item record;
  placed shop.orders;
BEGIN
  -- Stock may have gone since it was checked, so it is taken under the condition that it is there; always in the
  -- order of the keys, so that two orders never wait for each other.
  FOR item IN SELECT i.* FROM jsonb_to_recordset(cart -> 'items') AS i (sku text, quantity integer, unit_price numeric) ORDER BY i.sku LOOP
    UPDATE shop.stock AS s SET on_hand = s.on_hand - item.quantity WHERE s.sku = item.sku AND s.on_hand >= item.quantity;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'out of stock: % was sold while the order was being priced', item.sku USING ERRCODE = 'TK002';
    END IF;
  END LOOP;

  UPDATE shop.carts AS c SET ordered = true WHERE c.cart_id = (cart ->> 'cart_id')::integer;
  INSERT INTO shop.orders (cart_id, customer_id, subtotal, discount, shipping, tax, total, task_id)
  SELECT (cart ->> 'cart_id')::integer, (cart ->> 'customer_id')::integer, p.subtotal, p.discount, p.shipping, p.tax, p.total, step.task_id
  FROM jsonb_to_record(price) AS p (subtotal numeric, discount numeric, shipping numeric, tax numeric, total numeric)
  RETURNING * INTO placed;
  INSERT INTO shop.order_lines (order_id, sku, quantity, unit_price)
  SELECT placed.order_id, i.sku, i.quantity, i.unit_price
  FROM jsonb_to_recordset(cart -> 'items') AS i (sku text, quantity integer, unit_price numeric);

  RETURN jsonb_build_object('order_id', placed.order_id, 'total', placed.total);
END
$$;
COMMENT ON FUNCTION shop.create_order(tasker.step_call) IS 'Step: takes the stock, closes the cart and writes the order, all or nothing';

-- inventory/stock_management

CREATE OR REPLACE FUNCTION shop.monitor_stock_levels(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('products', count(*), 'units', coalesce(sum(s.on_hand), 0),
    'levels', coalesce(jsonb_object_agg(s.sku, s.on_hand), '{}'))
  FROM shop.stock AS s JOIN shop.products AS p ON p.sku = s.sku
  WHERE p.category = coalesce(context ->> 'category', p.category)
$$;
COMMENT ON FUNCTION shop.monitor_stock_levels(jsonb, jsonb) IS 'Step: what is on hand, of one category or of all';

CREATE OR REPLACE FUNCTION shop.identify_low_stock(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('threshold', (context ->> 'threshold')::integer, 'low', coalesce(jsonb_object_agg(l.key, l.value), '{}'))
  FROM jsonb_each(results #> '{monitor_stock_levels,levels}') AS l
  WHERE l.value::integer < (context ->> 'threshold')::integer
$$;
COMMENT ON FUNCTION shop.identify_low_stock(jsonb, jsonb) IS 'Step: which of it is below the threshold';

CREATE OR REPLACE FUNCTION shop.propose_reorders(step tasker.step_call)
RETURNS jsonb
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  WITH proposed AS (
    INSERT INTO shop.reorder_proposals (task_id, sku, on_hand, quantity)
    SELECT step.task_id, l.key, l.value::integer, s.reorder_quantity
    FROM jsonb_each(step.results #> '{identify_low_stock,low}') AS l JOIN shop.stock AS s ON s.sku = l.key
    RETURNING sku, quantity
  )
  SELECT jsonb_build_object('proposals', coalesce(jsonb_object_agg(p.sku, p.quantity), '{}')) FROM proposed AS p
$$;
COMMENT ON FUNCTION shop.propose_reorders(tasker.step_call) IS 'Step: one proposal for each product that runs low';

-- customer/user_onboarding

CREATE OR REPLACE FUNCTION shop.validate_registration_data(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  email CONSTANT text := lower(btrim(context ->> 'email'));
  username CONSTANT text := btrim(context ->> 'username');
BEGIN
  IF email !~ '^[^@\s]+@[^@\s]+\.[^@\s.]+$' THEN
    RAISE EXCEPTION '"%" is not an e-mail address', email USING ERRCODE = 'TK002';
  ELSIF username !~ '^[a-z][a-z0-9_]{2,19}$' THEN
    RAISE EXCEPTION '"%" is not a user name: 3 to 20 lower-case letters, digits and _, the first a letter', username USING ERRCODE = 'TK002';
  END IF;
  RETURN jsonb_build_object('email', email, 'username', username);
END
$$;
COMMENT ON FUNCTION shop.validate_registration_data(jsonb, jsonb) IS 'Step: e-mail address and user name are well-formed';

CREATE OR REPLACE FUNCTION shop.check_duplicate_user(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM shop.customers AS c WHERE lower(c.email) = results #>> '{validate_registration_data,email}') THEN
    RAISE EXCEPTION '% has an account already', results #>> '{validate_registration_data,email}' USING ERRCODE = 'TK002';
  ELSIF EXISTS (SELECT FROM shop.customers AS c WHERE lower(c.username) = results #>> '{validate_registration_data,username}') THEN
    RAISE EXCEPTION 'the user name "%" is taken', results #>> '{validate_registration_data,username}' USING ERRCODE = 'TK002';
  END IF;
  RETURN jsonb_build_object('duplicate', false);
END
$$;
COMMENT ON FUNCTION shop.check_duplicate_user(jsonb, jsonb) IS 'Step: neither address nor name is taken; the unique indexes decide a race';

CREATE OR REPLACE FUNCTION shop.create_account(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO shop.customers (username, email)
  VALUES (results #>> '{validate_registration_data,username}', results #>> '{validate_registration_data,email}')
  RETURNING jsonb_build_object('customer_id', customer_id, 'email', email, 'username', username)
$$;
COMMENT ON FUNCTION shop.create_account(jsonb, jsonb) IS 'Step: the account';

CREATE OR REPLACE FUNCTION shop.set_preferences(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO shop.preferences (customer_id, newsletter, language)
  VALUES ((results #>> '{create_account,customer_id}')::integer, coalesce((context ->> 'newsletter')::boolean, false),
    coalesce(context ->> 'language', 'en'))
  RETURNING jsonb_build_object('newsletter', newsletter, 'language', language)
$$;
COMMENT ON FUNCTION shop.set_preferences(jsonb, jsonb) IS 'Step: preferences as registered, or their defaults';

CREATE OR REPLACE FUNCTION shop.queue_welcome_mail(context jsonb, results jsonb)
RETURNS jsonb
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO shop.outbox (recipient, subject, body)
  SELECT a.email, 'Welcome', format('Hello %s, your account is ready.', a.username)
  FROM jsonb_to_record(results -> 'create_account') AS a (email text, username text)
  RETURNING jsonb_build_object('message_id', message_id)
$$;
COMMENT ON FUNCTION shop.queue_welcome_mail(jsonb, jsonb) IS 'Step: one mail, exactly once';
