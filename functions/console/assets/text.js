// What the console says, in English and Chinese, and how it writes times and money.
import { signal } from "@preact/signals";

const LANGUAGE = "console.language";
const known = (language) => (language?.toLowerCase().startsWith("zh") ? "zh" : "en");
export const language = signal(known(localStorage.getItem(LANGUAGE) ?? navigator.language));

export function speak(name) {
  localStorage.setItem(LANGUAGE, name);
  language.value = name;
}

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, what) => values[what] ?? "");

/** A text by its name, with `{what}` filled in. A name that has no text is shown as it is: it came from the API. */
export function t(name, values = {}) {
  const [english, chinese] = TEXTS[name] ?? [name.slice(name.indexOf(":") + 1)];
  return filled((language.value === "zh" && chinese) || english, values);
}

/** What comes next for an order, and the language that says it. The API says it in English, and so does the console what it has no Chinese for. */
export function comesNext({ next, tries }) {
  const chinese = language.value === "zh" && NEXT[next.code];
  if (!chinese) return { lang: "en", what: next.what };
  return { lang: "zh", what: filled(chinese, next) + (tries?.error ? filled(NEXT.tried, tries) : "") };
}

// ---------------------------------------------------------------- money and times

// ISO 4217's minor units, where they are not two: browsers go by what is usual in shops, which is a hundred times off for some.
const DIGITS = { 0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", 3: "BHD IQD JOD KWD LYD OMR TND", 4: "CLF UYW" };
export const digits = (currency) => Number(Object.keys(DIGITS).find((count) => DIGITS[count].includes(currency)) ?? 2);

export function money({ amount, currency }) {
  const fraction = digits(currency);
  const format = new Intl.NumberFormat(language.value, { style: "currency", currency, minimumFractionDigits: fraction, maximumFractionDigits: fraction });
  return format.format(amount / 10 ** fraction);
}

/** Minor units out of what somebody has typed; NaN if that is no amount of this currency. */
export function minorUnits(typed, currency) {
  const fraction = digits(currency);
  const [, whole, part = ""] = /^\s*(\d{1,13})(?:[.,](\d+))?\s*$/.exec(typed) ?? [];
  return whole === undefined || part.length > fraction ? NaN : Number(whole + part.padEnd(fraction, "0"));
}

export const typedMoney = ({ amount, currency }) => (amount / 10 ** digits(currency)).toFixed(digits(currency));
export const number = (value) => new Intl.NumberFormat(language.value).format(value);

export function moment(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const options = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language.value, options).format(date);
}

/** How long something took, in the unit that says enough. */
export function duration(seconds) {
  const units = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 0.1], ["millisecond", 0.001]];
  const [unit, least] = units.find(([, least]) => seconds >= least) ?? units.at(-1);
  const size = unit === "second" ? 1 : least;
  const value = seconds / size;
  const format = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: unit === "second" && value < 10 ? 1 : 0 };
  return new Intl.NumberFormat(language.value, format).format(value);
}

export const since = (time) => duration(Math.max(0, (Date.now() - new Date(time)) / 1000));

// ---------------------------------------------------------------- texts

// By the API's codes.
const NEXT = {
  reserve_goods: "正在备货。",
  take_payment: "正在收款。",
  hand_over_parcel: "正在把包裹交给承运商。",
  send_confirmation: "正在发送确认通知。",
  undo_order: "正在撤销已完成的部分：包裹、款项、库存。",
  resume_or_skip: "排除 {reason} 的原因后，请恢复或跳过步骤 {step}。",
  look_after_order: "我们的人员正在处理此订单。",
  give_money_back: "正在退款。",
  bring_parcel: "{carrier} 正在配送包裹。",
  nothing: "没有后续步骤。",
  tried: "步骤 {step} 因 {error} 失败，正在重试。",
};

const TEXTS = {
  "title": ["Orders", "订单控制台"],
  "skip": ["Skip to the content", "跳到正文"],
  "nav": ["Pages", "页面"],
  "nav.list": ["Pages of the list", "列表分页"],
  "now": ["Now", "现状"],
  "orders": ["Orders", "订单"],
  "attention": ["Attention", "待处理"],
  "letters": ["Dead letters", "死信"],
  "customers": ["Customers", "客户"],
  "catalogue": ["Catalogue", "商品"],
  "events": ["Events", "事件"],
  "sandbox": ["Sandbox", "沙盒"],
  "find": ["Find an order", "查找订单"],
  "find.hint": ["Order id, name or e-mail (press /)", "订单号、姓名或邮箱（按 /）"],
  "language": ["中文", "English"],
  "theme": ["Theme: {name}", "外观：{name}"],
  "theme.auto": ["as the system", "跟随系统"],
  "theme.light": ["light", "浅色"],
  "theme.dark": ["dark", "深色"],
  "stage": ["Stage {name}", "环境 {name}"],
  "staff": ["staff", "员工"],
  "supervisor": ["supervisor", "主管"],
  "no.page": ["There is no such page", "没有这个页面"],
  "loading": ["Loading", "加载中"],
  "reload": ["Try again", "重试"],
  "older": ["Older", "更早"],
  "first": ["Back to the newest", "回到最新"],
  "next": ["Next", "下一页"],
  "previous": ["Previous", "上一页"],
  "page.of": ["Page {page} of {pages}", "第 {page} 页，共 {pages} 页"],
  "copied": ["Copied. The command takes its token from TOKEN", "已复制。命令从 TOKEN 读取令牌"],
  "copy.failed": ["The browser does not let the page copy", "浏览器不允许复制"],
  "curl": ["Copy as curl", "复制为 curl"],
  "back": ["Leave it", "取消"],
  "stop": ["Stop", "停止"],
  "all": ["all", "全部"],
  "open": ["Open", "打开"],
  "from": ["From", "从"],
  "to": ["To", "到"],
  "show": ["Show", "查看"],
  "nothing": ["Nothing here", "暂无内容"],

  "sign-in": ["Sign in", "登录"],
  "sign-in.lead": ["See what becomes of every order, and lend a hand where one is stuck.", "查看每个订单的进展，并在卡住时施以援手。"],
  "sign-in.nowhere": ["Nobody has said how to sign in here: the stack goes by an issuer of its own, and its Console parameters are empty (docs/console.md).", "尚未配置登录方式：此环境使用自有的身份提供方，而 Console 参数为空（见 docs/console.md）。"],
  "sign-in.stranger": ["This sign-in was not begun here. Begin again.", "此次登录并非从这里发起，请重新登录。"],
  "sign-in.refused": ["The sign-in was not completed. Begin again.", "登录未完成，请重新登录。"],
  "sign-in.over": ["The session is over. Sign in again; nothing that was sent is lost.", "会话已结束，请重新登录；已提交的内容不会丢失。"],
  "sign-in.unreachable": ["The service cannot be reached.", "无法连接服务。"],
  "sign-out": ["Sign out", "退出登录"],
  "not-staff": ["This account is not one of staff", "此账号不是员工账号"],
  "not-staff.lead": ["The console shows nothing to customers and carriers. Sign out, and sign in with another account.", "控制台不向客户和承运商展示任何内容。请退出并使用其他账号登录。"],

  "status:created": ["Created", "已创建"],
  "status:reserved": ["Reserved", "已备货"],
  "status:paid": ["Paid", "已付款"],
  "status:shipped": ["Shipped", "已发货"],
  "status:confirmed": ["Confirmed", "已确认"],
  "status:delivered": ["Delivered", "已送达"],
  "status:cancelling": ["Cancelling", "取消中"],
  "status:cancelled": ["Cancelled", "已取消"],
  "status:rejected": ["Rejected", "已拒绝"],
  "status:needs_attention": ["Needs attention", "需要处理"],
  "undone": ["undone", "已撤销"],
  "failed": ["refused", "被拒"],

  "now.lead": ["Are orders getting through?", "订单是否畅通？"],
  "now.good": ["Orders are getting through", "订单畅通"],
  "now.degraded": ["Orders are taken, and wait for a provider", "订单已接收，正等待服务商"],
  "now.down": ["A part of the service does not answer", "部分服务没有响应"],
  "now.stuck": ["{count} wait for a person", "{count} 个订单需要人工处理"],
  "now.dead": ["{count} dead letters wait", "{count} 条死信待处理"],
  "now.by-status": ["Orders by status", "各状态订单"],
  "now.by-hour": ["Placed and refused, by the hour", "每小时下单与拒绝"],
  "now.placed": ["placed", "下单"],
  "now.refused": ["rejected or cancelled", "拒绝或取消"],
  "now.hour": ["Hour", "小时"],
  "now.table": ["The same as a table", "以表格查看"],
  "now.confirm": ["Time to confirm", "确认用时"],
  "now.lag": ["Lag of the views", "视图延迟"],
  "now.within": ["{share} within {time}", "{share} 在 {time} 内"],
  "now.beyond": ["{share} within {time}, the rest later", "{share} 在 {time} 内，其余更久"],
  "now.since.deployed": ["of {count} since the service was deployed", "自部署以来共 {count} 次"],
  "now.since.minutes": ["of {count} in the last {time}", "最近 {time} 内共 {count} 次"],
  "now.none": ["None yet", "暂无"],
  "now.components": ["Components", "组件"],
  "now.partly": ["Some figures cannot be had: {names}", "部分数据无法获取：{names}"],
  "now.at": ["As of {time}, once a minute while this page is in front", "截至 {time}；页面在前台时每分钟更新"],
  "now.oldest": ["Waiting the longest", "等待最久"],

  "filter": ["Filter", "筛选"],
  "filter.search": ["Search", "搜索"],
  "filter.status": ["Status", "状态"],
  "filter.q-only": ["A search looks through all statuses and times.", "搜索会查找所有状态与时间。"],
  "filter.clear": ["Clear", "清除"],
  "column.order": ["Order", "订单"],
  "column.customer": ["Customer", "客户"],
  "column.status": ["Status", "状态"],
  "column.total": ["Total", "总额"],
  "column.items": ["Lines", "行数"],
  "column.placed": ["Placed", "下单时间"],
  "found": ["{count} found", "找到 {count} 个"],
  "found.at-least": ["At least {count} found", "至少找到 {count} 个"],
  "nameless": ["No name", "未留姓名"],

  "order": ["Order {id}", "订单 {id}"],
  "order.none": ["There is no such order", "没有这个订单"],
  "order.live": ["Follows the order by itself", "自动跟随订单"],
  "order.track": ["From created to delivered", "从创建到送达"],
  "order.history": ["History", "历史"],
  "order.version": ["Version {version} of {last}", "第 {version} 版，共 {last} 版"],
  "order.then": ["As it was then, {time}", "当时的状态，{time}"],
  "order.latest": ["Back to now", "回到现在"],
  "order.changed": ["Changed: {fields}", "变化：{fields}"],
  "order.changed.nothing": ["Nothing to be seen changed", "没有可见的变化"],
  "order.data": ["Data", "数据"],
  "order.books": ["Books", "账目"],
  "order.books.ours": ["ours", "我方"],
  "order.books.theirs": ["provider", "服务商"],
  "order.books.agree": ["Both agree", "两边一致"],
  "order.books.differ": ["They differ", "两边不一致"],
  "order.books.none": ["The providers do not answer just now", "服务商暂时没有响应"],
  "agrees": ["agrees", "一致"],
  "differs": ["differs", "不一致"],
  "books.charged": ["Charged", "已收款"],
  "books.refunded": ["Refunded", "已退款"],
  "books.reserved": ["Reserved", "已备货"],
  "books.shipment": ["Parcel", "包裹"],
  "book:none": ["none", "无"],
  "book:created": ["created", "已创建"],
  "book:cancelled": ["cancelled", "已取消"],
  "book:delivered": ["delivered", "已送达"],
  "payment:completed": ["charged", "已收款"],
  "payment:failed": ["declined", "被拒"],
  "payment:refunded": ["given back", "已退回"],
  "payment:not_required": ["nothing to be paid", "无需付款"],
  "order.next": ["What happens next", "接下来"],
  "waits:service": ["It goes on by itself", "系统自动继续"],
  "waits:person": ["It waits for a person", "等待人工处理"],
  "waits:carrier": ["It waits for the carrier", "等待承运商"],
  "waits:nobody": ["Nothing more is due", "没有后续步骤"],
  "tries": ["Try {attempt} of {attempts}, round {round} of {rounds}", "第 {round}/{rounds} 轮，第 {attempt}/{attempts} 次尝试"],
  "tries.next": ["again by {time}", "最迟 {time} 再试"],
  "order.items": ["Goods", "商品"],
  "order.address": ["Goes to", "收货地址"],
  "order.parcel": ["Parcel", "包裹"],
  "order.refunds": ["Refunds by staff", "人工退款"],
  "order.total": ["Total", "总额"],
  "order.rejection": ["Why it was rejected", "拒绝原因"],
  "order.cancellation": ["Why it was cancelled", "取消原因"],
  "order.stuck": ["The step {step} was given up: {reason}", "步骤 {step} 已放弃：{reason}"],
  "field:status": ["status", "状态"],
  "field:payment": ["payment", "付款"],
  "field:shipment": ["parcel", "包裹"],
  "field:refunds": ["refunds", "退款"],
  "field:rejection": ["rejection", "拒绝"],
  "field:cancellation": ["cancellation", "取消"],
  "field:attention": ["attention", "待处理"],
  "field:items": ["goods", "商品"],
  "field:shipping_address": ["address", "地址"],
  "field:total_amount": ["total", "总额"],
  "who:customer": ["Customer", "客户"],
  "who:staff": ["Staff", "员工"],
  "who:carrier": ["Carrier", "承运商"],
  "who:service": ["Service", "系统"],
  "you": ["You", "您"],
  "refund:requested": ["under way", "处理中"],
  "refund:completed": ["given back", "已退回"],
  "refund:failed": ["failed", "失败"],

  "event:OrderCreated": ["Placed for {amount}", "下单，{amount}"],
  "event:ValidationFailed": ["Came too late to be begun", "太迟，未能开始"],
  "event:InventoryReserved": ["Goods are reserved", "商品已备货"],
  "event:ReservationFailed": ["Goods could not be reserved", "备货失败"],
  "event:PaymentCompleted": ["{amount} charged", "已收款 {amount}"],
  "event:PaymentNotRequired": ["Nothing to be paid", "无需付款"],
  "event:PaymentFailed": ["The payment was declined", "付款被拒"],
  "event:InventoryReleased": ["Goods are released", "商品已释放"],
  "event:ShipmentCreated": ["The carrier has the parcel", "承运商已揽收"],
  "event:ShipmentFailed": ["The carrier refused the parcel", "承运商拒收"],
  "event:OrderConfirmed": ["Confirmed, and the customer told", "已确认并通知客户"],
  "event:OrderRejected": ["Rejected, and undone", "已拒绝并撤销"],
  "event:OrderCancelRequested": ["To be cancelled", "请求取消"],
  "event:ShipmentCancelled": ["The parcel comes back", "包裹已召回"],
  "event:PaymentRefunded": ["{amount} given back", "已退回 {amount}"],
  "event:OrderCancelled": ["Cancelled, and undone", "已取消并撤销"],
  "event:OrderFlagged": ["A person is needed at {step}", "{step} 需要人工处理"],
  "event:FulfilmentResumed": ["Goes on", "继续处理"],
  "event:ShipmentDelivered": ["The parcel has arrived", "包裹已送达"],
  "event:RefundRequested": ["{amount} to be given back", "申请退款 {amount}"],
  "event:RefundCompleted": ["{amount} given back", "已退回 {amount}"],
  "event:RefundFailed": ["The refund of {amount} failed", "退款 {amount} 失败"],
  "event:StepSkipped": ["Goes on without {step}", "跳过 {step}"],
  "event:BooksCompared": ["Books compared with the providers'", "已与服务商对账"],
  "event:CustomerProfileUpdated": ["The customer's profile was changed", "客户资料已更改"],

  "reason": ["Reason", "原因"],
  "reason.hint": ["Kept for ever, with who you are beside it", "将永久保存，并记录您的身份"],
  "note": ["Note, if there is more to say", "备注（可选）"],
  "amount": ["Amount in {currency}", "金额（{currency}）"],
  "amount.wrong": ["No amount in {currency}", "不是有效的 {currency} 金额"],
  "done": ["Done: version {version}", "完成：第 {version} 版"],
  "act.cancel": ["Cancel…", "取消订单…"],
  "act.cancel.title": ["Cancel this order?", "取消此订单？"],
  "act.cancel.do": ["Cancel the order", "取消订单"],
  "act.cancel.then": ["From now on no step goes forward. Undone is, in this order:", "此后不再执行任何步骤，并依次撤销："],
  "act.cancel.nothing": ["Nothing has been done yet that would have to be undone.", "尚无需要撤销的内容。"],
  "undo.shipment": ["the parcel is called back, if the carrier still can", "召回包裹（若承运商仍可召回）"],
  "undo.payment": ["{amount} goes back to the customer", "{amount} 退还客户"],
  "undo.stock": ["the goods go back into stock", "商品退回库存"],
  "act.refund": ["Refund…", "退款…"],
  "act.refund.title": ["Give money back?", "退款？"],
  "act.refund.do": ["Give it back", "退款"],
  "act.refund.then": ["The amount goes back to the customer. Up to {amount} can be given back. It cannot be called back.", "该金额将退还客户，最多可退 {amount}，且无法撤回。"],
  "act.refund.differ": ["Our books and the provider's differ. Look at them first: a refund may give back what was given back before.", "我方与服务商账目不一致。请先核对，以免重复退款。"],
  "act.resume": ["Resume…", "继续…"],
  "act.resume.title": ["Let this order go on?", "让订单继续？"],
  "act.resume.do": ["Let it go on", "继续"],
  "act.resume.then": ["The step {step} is tried again, and what comes after it. What the provider has done already is found, not done twice.", "将重试步骤 {step} 及其后续步骤。服务商已完成的不会重复执行。"],
  "act.skip": ["Skip the step…", "跳过步骤…"],
  "act.skip.title": ["Go on without {step}?", "跳过 {step}？"],
  "act.skip.do": ["Go on without it", "跳过"],
  "act.skip.then": ["{step} is not done, now or later: {what}. The order goes on with what comes after it.", "{step} 将不再执行：{what}。订单继续后续步骤。"],
  "skip:send-confirmation": ["the customer is not told", "不通知客户"],
  "skip:cancel-shipment": ["the parcel stays where it is, and is given up", "包裹不再召回"],
  "skip:refund-payment": ["no money goes back by the provider; it goes back by another way, or not at all", "不经服务商退款；须另行处理"],
  "skip:release-inventory": ["the goods stay reserved", "商品保持备货"],
  "skip:issue-refund": ["this refund is not made by the provider", "不经服务商执行此退款"],
  "skip:compare-books": ["the difference stays as it is", "差异保持不变"],
  "act.deliver": ["It has arrived…", "已送达…"],
  "act.deliver.title": ["Record that the parcel has arrived?", "记录包裹已送达？"],
  "act.deliver.do": ["It has arrived", "已送达"],
  "act.deliver.then": ["After that the order cannot be cancelled any more, only refunded.", "此后订单不能取消，只能退款。"],

  "attention.lead": ["Oldest first. The books beside each order are the evidence; what the step has refused may pass now.", "按等待时间从久到近。旁边的账目即为依据；被拒的步骤现在可能已可通过。"],
  "attention.none": ["Nobody waits. All orders go on by themselves.", "没有等待处理的订单，一切自动进行。"],
  "attention.more": ["Show {count} more", "再显示 {count} 个"],
  "attention.since": ["for {time}", "已等待 {time}"],
  "attention.all": ["Resume all at {step} ({reason})…", "继续所有停在 {step}（{reason}）的订单…"],
  "attention.all.title": ["Let {count} orders go on?", "让 {count} 个订单继续？"],
  "attention.all.then": ["All orders that are stuck at {step} with {reason} are tried again at once.", "所有因 {reason} 停在 {step} 的订单将同时重试。"],
  "attention.all.do": ["Let them go on", "全部继续"],
  "attention.all.done": ["{count} orders go on", "{count} 个订单已继续"],
  "attention.interrupted": ["was {status}", "此前：{status}"],

  "letters.lead": ["What a consumer has not been able to handle. Others go on meanwhile; mend the cause, then redrive.", "消费者未能处理的内容；其他订单不受影响。排除原因后再重新处理。"],
  "letters.none": ["None: all is handled", "无：一切均已处理"],
  "letters.consumer": ["Consumer", "消费者"],
  "consumer:project-orders": ["Brings events into what is read: while a stream waits, reads show these as they were before.", "将事件写入读取视图：等待期间，读取结果停留在之前的状态。"],
  "consumer:publish-events": ["Puts events on the bus: while a stream waits, nobody there hears of it.", "将事件发布到总线：等待期间，总线上的消费者收不到这些事件。"],
  "consumer:start-fulfilment": ["Starts what orders ask for: these messages were given up by its queue.", "启动订单所需的流程：这些消息已被其队列放弃。"],
  "letters.waiting": ["Waiting", "等待中"],
  "letters.settled": ["Settled, within a year", "已了结（一年内）"],
  "letters.about": ["About", "对象"],
  "letters.error": ["Error", "错误"],
  "letter:parked": ["Parked", "已搁置"],
  "letter:message": ["Message", "消息"],
  "letter:batch": ["Batch", "批次"],
  "outcome:redriven": ["redriven", "已重新处理"],
  "outcome:discarded": ["discarded", "已丢弃"],
  "letters.tries": ["Tried {count} times", "已尝试 {count} 次"],
  "letters.reason": ["Kept for a year, with who you are beside it", "将保存一年，并记录您的身份"],
  "letters.redrive": ["Redrive…", "重新处理…"],
  "letters.redrive.all": ["Redrive all with {error}…", "重新处理所有 {error}…"],
  "letters.redrive.title": ["Handle this after all?", "重新处理？"],
  "letters.redrive.all.title": ["Handle these {count} after all?", "重新处理这 {count} 条？"],
  "letters.redrive.then": ["It is handled anew from the event table, from the first event that waits to the last, by the newest code. What fails stays here with its new error.", "将由最新代码从事件表重新处理，从第一个等待的事件到最后一个。失败的会留在此处并显示新的错误。"],
  "letters.redrive.message": ["It is sent to its queue again. What is older than 24 hours starts nothing; reconcile looks after it.", "将重新发送到队列。超过 24 小时的不会启动任何流程，由 reconcile 处理。"],
  "letters.redrive.do": ["Redrive", "重新处理"],
  "letters.redrive.done": ["{count} redriven.", "已重新处理 {count} 条。"],
  "letters.discard": ["Discard…", "丢弃…"],
  "letters.discard.all": ["Discard all with {error}…", "丢弃所有 {error}…"],
  "letters.discard.title": ["Never handle this?", "不再处理？"],
  "letters.discard.all.title": ["Never handle these {count}?", "不再处理这 {count} 条？"],
  "letters.discard.do": ["Discard", "丢弃"],
  "letters.discard.done": ["{count} discarded.", "已丢弃 {count} 条。"],
  "discard:project-orders": ["Reads show it as it was before. Once all of its events can be read, the next one or a rebuild brings it up; until then the next one waits here again, and a rebuild leaves it out. No event is lost.", "读取结果停留在之前的状态。待其所有事件均可读取后，下一个事件或重建会将其更新；在此之前，下一个事件会再次停在此处，重建也不会包含它。事件不会丢失。"],
  "discard:publish-events": ["Consumers of the bus never hear of these events, unless they are republished. No event is lost.", "除非重新发布，总线上的消费者永远收不到这些事件。事件不会丢失。"],
  "discard:start-fulfilment": ["The work that it asks for is not begun; reconcile looks after orders that it leaves open.", "所请求的工作不会开始；遗留的未完成订单由 reconcile 处理。"],
  "batch:project-orders": ["Only its place in the stream is known: rebuild or reproject from the events (docs/runbook.md), then discard it.", "仅知道其在流中的位置：请从事件重建（见 docs/runbook.md），然后丢弃。"],
  "batch:publish-events": ["Only its place in the stream is known: republish from the events (docs/runbook.md), then discard it.", "仅知道其在流中的位置：请从事件重新发布（见 docs/runbook.md），然后丢弃。"],
  "letters.failed": ["{count} failed: {error}.", "{count} 条失败：{error}。"],
  "letters.left": ["There are more: do it again.", "还有更多，请再次执行。"],

  "customers.lead": ["Find a customer by a part of the name or the address, or by the id.", "按姓名、邮箱的一部分或客户编号查找。"],
  "customers.search": ["Name, e-mail or id", "姓名、邮箱或编号"],
  "customers.by-orders": ["Customers are found by their orders: those without one are found by their id only.", "客户通过订单查找：没有订单的客户只能按编号查找。"],
  "customer": ["Customer", "客户"],
  "customer.none": ["Has not said who they are", "未填写资料"],
  "customer.first": ["First name", "名"],
  "customer.last": ["Last name", "姓"],
  "customer.email": ["E-mail", "邮箱"],
  "customer.verified": ["verified", "已验证"],
  "customer.unverified": ["not verified", "未验证"],
  "customer.edit": ["Change…", "修改…"],
  "customer.edit.title": ["Change the profile?", "修改客户资料？"],
  "customer.edit.then": ["All of the customer's orders show it at once; the change is kept as an event.", "该客户的所有订单会立即显示；更改将作为事件保存。"],
  "customer.edit.do": ["Change it", "修改"],
  "customer.orders": ["Orders", "订单"],

  "catalogue.lead": ["What can be ordered. What was ordered keeps its price.", "可订购的商品。已下单的价格不变。"],
  "catalogue.filter": ["Filter this page", "筛选本页"],
  "product.id": ["Id", "编号"],
  "product.name": ["Name", "名称"],
  "product.price": ["Price", "价格"],
  "product.currency": ["Currency", "货币"],
  "product.stock": ["Can be ordered", "可订购数量"],
  "product.new": ["New product…", "新商品…"],
  "product.new.title": ["A new product?", "新商品？"],
  "product.edit": ["Change…", "修改…"],
  "product.edit.title": ["Change {name}?", "修改 {name}？"],
  "product.edit.then": ["From now on this is what it costs. Orders that were placed keep their price.", "此后按此价格。已下的订单价格不变。"],
  "product.edit.do": ["Put it", "保存"],
  "product.adjust": ["Stock…", "库存…"],
  "product.adjust.title": ["Change the stock of {name}?", "调整 {name} 的库存？"],
  "product.adjust.then": ["What orders hold is left alone. {stock} can be ordered now.", "订单占用的不受影响。当前可订购 {stock}。"],
  "product.adjust.by": ["More or fewer, such as -3", "增减数量，例如 -3"],
  "product.adjust.do": ["Change it", "调整"],
  "product.adjusted": ["{stock} can be ordered now", "现在可订购 {stock}"],
  "product.not-listable": ["The inventory that orders use has no list of its products", "订单所用的库存服务不提供商品列表"],

  "events.lead": ["What of one type has happened, to whatever order, newest first.", "某一类型的所有事件，最新在前。"],
  "events.type": ["Type", "类型"],
  "column.when": ["When", "时间"],
  "column.who": ["Who", "操作者"],
  "column.what": ["What", "内容"],
  "column.do": ["Change", "操作"],

  "sandbox.lead": ["Place an order that goes wrong, and watch it being undone. The built-in providers misbehave on request; where Stage is prod they do not.", "下一个会出错的订单，观察它如何被撤销。内置服务商可按要求出错；prod 环境除外。"],
  "sandbox.place": ["Place it", "下单"],
  "sandbox.customer": ["For the customer", "客户编号"],
  "sandbox.product": ["Product", "商品"],
  "sandbox.none": ["There is no product in stock. Put one in the catalogue first.", "没有可用库存，请先在商品页添加。"],
  "sandbox.placed": ["Placed. This is what becomes of it", "已下单，以下是它的进展"],
  "sandbox.fine": ["All goes well", "一切顺利"],
  "sandbox.fine.then": ["it ends confirmed", "最终已确认"],
  "sandbox.declined": ["The charge is declined", "付款被拒"],
  "sandbox.declined.then": ["the stock is released, it ends rejected", "释放库存，最终被拒绝"],
  "sandbox.funds": ["Not enough on the card", "余额不足"],
  "sandbox.funds.then": ["the stock is released, it ends rejected", "释放库存，最终被拒绝"],
  "sandbox.refuse": ["The carrier refuses the paid parcel", "承运商拒收已付款的包裹"],
  "sandbox.refuse.then": ["the money goes back, it ends rejected", "退款，最终被拒绝"],
  "sandbox.lost": ["The charge is made, its answer is lost", "已收款，但应答丢失"],
  "sandbox.lost.then": ["trying again finds it: confirmed, with one charge", "重试会找到它：已确认，仅收款一次"],
  "sandbox.twice": ["The charge fails twice", "收款失败两次"],
  "sandbox.twice.then": ["the third try makes it: confirmed", "第三次成功：已确认"],
  "sandbox.slow": ["The charge takes two seconds more", "收款慢两秒"],
  "sandbox.slow.then": ["it ends confirmed, a little later", "稍后已确认"],
  "sandbox.refund": ["No refund is possible", "无法退款"],
  "sandbox.refund.then": ["cancel it, or refund it: it needs a person", "取消或退款后：需要人工处理"],
  "sandbox.refund-twice": ["Refunds fail twice", "退款失败两次"],
  "sandbox.refund-twice.then": ["cancel it: the third try gives the money back", "取消后：第三次退款成功"],
  "sandbox.parcel-lost": ["The parcel is booked, the answer is lost", "已下运单，但应答丢失"],
  "sandbox.parcel-lost.then": ["trying again finds it: confirmed, with one parcel", "重试会找到它：已确认，仅一个包裹"],
  "sandbox.keep": ["The carrier keeps the parcel", "承运商不退回包裹"],
  "sandbox.keep.then": ["cancel it: it needs a person, and nothing has moved", "取消后：需要人工处理，钱货未动"],
  "sandbox.mute": ["The customer cannot be told", "无法通知客户"],
  "sandbox.mute.then": ["it ends confirmed all the same", "仍然已确认"],

  "problem": ["It did not work", "操作失败"],
  "problem.0": ["The service cannot be reached. Look at the network, and try again.", "无法连接服务，请检查网络后重试。"],
  "problem.403": ["You may not do this.", "您没有此权限。"],
  "problem.404": ["There is nothing of that name.", "没有找到。"],
  "problem.429": ["Too many requests at once. Try again in a moment.", "请求过多，请稍候重试。"],
  "problem.503": ["Not available just now. Try again in a moment.", "暂时不可用，请稍候重试。"],
  "correlation": ["For whoever looks into it: {id}", "供排查使用：{id}"],
};
